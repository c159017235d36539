-- A GPS receiver on a serial port; its position every ten seconds to a file and to a broker.
--   eventflux serial list                what ports there are
--   eventflux serial probe /dev/ttyUSB0  which speed and framing the device has
CREATE STREAM Fixes (sentence STRING, latitude DOUBLE, longitude DOUBLE, speed_knots DOUBLE, status STRING) WITH (
  'type' = 'source', 'extension' = 'serial', 'format' = 'nmea', 'framing' = 'nmea',
  'nmea.sentences' = 'RMC', 'idle_timeout' = '10 s');

CREATE STREAM Track (latitude DOUBLE, longitude DOUBLE, speed_kmh DOUBLE) WITH (
  'type' = 'sink', 'extension' = 'file', 'format' = 'csv');
CREATE STREAM Positions (latitude DOUBLE, longitude DOUBLE, speed_kmh DOUBLE) WITH (
  'type' = 'sink', 'extension' = 'mqtt', 'format' = 'json');
CREATE STREAM Trouble (event STRING, stream STRING, reason STRING) WITH (
  'type' = 'sink', 'extension' = 'log');

-- A receiver without a fix says so with the status V.
INSERT INTO Moves
SELECT latitude, longitude, round(speed_knots * 1.852, 1) AS speed_kmh FROM Fixes WHERE status = 'A'
OUTPUT LAST EVERY 10 SECONDS;
INSERT INTO Track SELECT latitude, longitude, speed_kmh FROM Moves;
INSERT INTO Positions SELECT latitude, longitude, speed_kmh FROM Moves;

-- Unplugged, plugged in again, silent for ten seconds.
INSERT INTO Trouble SELECT event, stream, reason FROM _events WHERE stream = 'Fixes';

-- Two electricity meters on one RS-485 line; a mean a minute goes to a server, whenever there is a link.
CREATE STREAM Meters (meter INT, power DOUBLE, energy BIGINT, alarm BOOLEAN) WITH (
  'type' = 'source', 'extension' = 'modbus',
  'modbus.unit.column' = 'meter',
  'modbus.read.power' = 'input 52 f32',
  'modbus.read.energy' = 'input 342 u32 cdab',
  'modbus.read.alarm' = 'discrete 0');

CREATE STREAM Minutes (meter INT, power DOUBLE, energy BIGINT) WITH (
  'type' = 'sink', 'extension' = 'http', 'format' = 'json', 'json.id' = '_id', 'json.timestamp' = 'at');
CREATE STREAM Alarms (meter INT, power DOUBLE) WITH (
  'type' = 'sink', 'extension' = 'http', 'format' = 'json', 'json.id' = '_id');
CREATE STREAM Undelivered (originalEvent STRING, errorMessage STRING, errorType STRING, timestamp BIGINT, attemptCount INT,
  streamName STRING) WITH ('type' = 'sink', 'extension' = 'file', 'format' = 'json');

INSERT INTO Minutes
SELECT meter, round(avg(power), 1) AS power, max(energy) AS energy
FROM Meters WINDOW('tumbling', 1 MINUTE) GROUP BY meter;

-- Once when it begins, not at every poll.
INSERT INTO Alarms SELECT meter, power FROM Meters
WHERE alarm AND had_changed(alarm) OVER (PARTITION BY meter);

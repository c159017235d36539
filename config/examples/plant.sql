CREATE STREAM Readings (device STRING, temperature DOUBLE) WITH (
  'type' = 'source', 'extension' = 'mqtt', 'format' = 'json');
CREATE STREAM Alerts (device STRING, temperature DOUBLE) WITH (
  'type' = 'sink', 'extension' = 'http', 'format' = 'json');

INSERT INTO Alerts SELECT device, temperature FROM Readings WHERE temperature > 80;

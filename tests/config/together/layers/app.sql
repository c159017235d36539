CREATE STREAM Readings (device STRING, temp DOUBLE, at BIGINT) WITH (
  'type' = 'source', 'extension' = 'mqtt', 'format' = 'json', 'mqtt.version' = '3.1.1',
  'timestamp.field' = 'at');
CREATE STREAM Alerts (device STRING, temp DOUBLE) WITH (
  'type' = 'sink', 'extension' = 'mqtt', 'format' = 'json', 'mqtt.topic' = 'alerts');
INSERT INTO Alerts SELECT device, temp FROM Readings WHERE temp > 80;

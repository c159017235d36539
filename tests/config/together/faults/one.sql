CREATE STREAM Readings (device STRING, temp DOUBLE) WITH (
  'type' = 'source', 'extension' = 'mqtt', 'format' = 'json', 'mqtt.topic' = 'a');
CREATE STREAM Alerts (device STRING, temp DOUBLE) WITH (
  'type' = 'sink', 'extension' = 'mqtt', 'format' = 'json', 'mqtt.broker' = 'nowhere');
CREATE STREAM Other (temp DOUBLE) WITH ('type' = 'source', 'extension' = 'mqqt');

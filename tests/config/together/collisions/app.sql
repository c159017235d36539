CREATE STREAM A (temp DOUBLE) WITH (
  'type' = 'source', 'extension' = 'mqtt', 'format' = 'json', 'mqtt.topic' = 'a');
CREATE STREAM B (temp DOUBLE) WITH (
  'type' = 'source', 'extension' = 'mqtt', 'format' = 'json', 'mqtt.topic' = 'b',
  'mqtt.broker' = 'mqtt://elsewhere:1883');
CREATE STREAM C (temp DOUBLE) WITH (
  'type' = 'sink', 'extension' = 'mqtt', 'format' = 'json', 'mqtt.topic' = 'c');
CREATE STREAM D (temp DOUBLE) WITH (
  'type' = 'sink', 'extension' = 'mqtt', 'format' = 'json', 'mqtt.topic' = 'd',
  'mqtt.client_id' = 'another');
INSERT INTO C SELECT temp FROM A;
INSERT INTO D SELECT temp FROM B;

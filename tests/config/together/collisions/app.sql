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
CREATE STREAM E (temp DOUBLE) WITH (
  'type' = 'source', 'extension' = 'mqtt', 'format' = 'json', 'mqtt.topic' = 'e',
  'mqtt.broker' = 'mqtt://spare:1883, mqtt://elsewhere:1883');
CREATE STREAM Scale (temp DOUBLE) WITH (
  'type' = 'source', 'extension' = 'serial', 'format' = 'json', 'serial.port' = '/dev/ttyUSB0');
CREATE STREAM Scale2 (temp DOUBLE) WITH (
  'type' = 'source', 'extension' = 'serial', 'format' = 'json', 'serial.port' = '/dev/ttyUSB0');
CREATE STREAM ToScale (temp DOUBLE) WITH (
  'type' = 'sink', 'extension' = 'serial', 'format' = 'json', 'serial.port' = '/dev/ttyUSB0');
CREATE STREAM Posted (temp DOUBLE) WITH (
  'type' = 'source', 'extension' = 'http', 'format' = 'json', 'http.listen' = '127.0.0.1:8080');
CREATE STREAM Posted2 (temp DOUBLE) WITH (
  'type' = 'source', 'extension' = 'http', 'format' = 'json', 'http.listen' = '127.0.0.1:8080');
CREATE STREAM Posted3 (temp DOUBLE) WITH (
  'type' = 'source', 'extension' = 'http', 'format' = 'json', 'http.listen' = '127.0.0.1:8080',
  'http.path' = '/other');
CREATE STREAM Kept (temp DOUBLE) WITH (
  'type' = 'sink', 'extension' = 'file', 'format' = 'json', 'file.path' = 'kept.jsonl');
CREATE STREAM Kept2 (temp DOUBLE) WITH (
  'type' = 'sink', 'extension' = 'file', 'format' = 'json', 'file.path' = 'kept.jsonl');
INSERT INTO ToScale SELECT temp FROM Scale;

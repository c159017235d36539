CREATE STREAM Readings (temp DOUBLE) WITH (
  'type' = 'source', 'extension' = 'mqtt', 'format' = 'json');
INSERT INTO Hot SELECT temp FROM Readings WHERE temp > 80;

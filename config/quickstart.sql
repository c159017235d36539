-- Readings from every device of the plant; the broker's address stands in quickstart.toml.
CREATE STREAM Readings (device STRING, temperature DOUBLE, humidity DOUBLE, topic STRING) WITH (
  'type' = 'source', 'extension' = 'mqtt', 'format' = 'json',
  'mqtt.topic' = 'plant/+/climate', 'mqtt.topic.column' = 'topic');

-- What is printed here.
CREATE STREAM Shown (device STRING, temperature DOUBLE, verdict STRING) WITH (
  'type' = 'sink', 'extension' = 'log');
CREATE STREAM Climate (device STRING, average DOUBLE, hottest DOUBLE, readings BIGINT) WITH (
  'type' = 'sink', 'extension' = 'log');

-- What is published; see it with:  mosquitto_sub -p 18883 -t 'alerts/#' -v
CREATE STREAM Alerts (device STRING, temperature DOUBLE, verdict STRING) WITH (
  'type' = 'sink', 'extension' = 'mqtt', 'format' = 'json', 'mqtt.topic' = 'alerts/temperature');

-- A threshold: every reading above 80 degrees is an alert.
INSERT INTO Hot
SELECT device, temperature, CASE WHEN temperature > 90 THEN 'stop it' ELSE 'too hot' END AS verdict
FROM Readings
WHERE temperature > 80;

INSERT INTO Alerts SELECT device, temperature, verdict FROM Hot;
INSERT INTO Shown SELECT device, temperature, verdict FROM Hot;

-- A window: the climate of every device, each five seconds.
INSERT INTO Climate
SELECT device, round(avg(temperature), 1) AS average, max(temperature) AS hottest, count(*) AS readings
FROM Readings WINDOW('tumbling', 5 SECONDS)
GROUP BY device;

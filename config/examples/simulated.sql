-- Sensors that are made up, and what is found in their readings: nothing outside is needed.
--   eventflux run config/examples/simulated.toml
CREATE STREAM Readings (device STRING, temperature DOUBLE, humidity DOUBLE) WITH (
  'type' = 'source', 'extension' = 'simulator', 'simulator.every' = '50 ms', 'simulator.seed' = '7',
  'simulator.per' = 'device',
  'simulator.column.device' = 'cycle(press-1, press-2, press-3, oven-1, oven-2)',
  'simulator.column.temperature' = 'walk(65, 0.5, 55, 75) spike 0.01 20 digits 1',
  'simulator.column.humidity' = 'sine(45, 10, 1 min) noise 1 drop 0.01 digits 1');

CREATE STREAM Alerts (device STRING, temperature DOUBLE, verdict STRING) WITH (
  'type' = 'sink', 'extension' = 'log');
CREATE STREAM Climate (device STRING, average DOUBLE, hottest DOUBLE, readings BIGINT) WITH (
  'type' = 'sink', 'extension' = 'log');

INSERT INTO Alerts
SELECT device, temperature, CASE WHEN temperature > 90 THEN 'stop it' ELSE 'too hot' END AS verdict
FROM Readings
WHERE temperature > 80;

INSERT INTO Climate
SELECT device, round(avg(temperature), 1) AS average, max(temperature) AS hottest, count(*) AS readings
FROM Readings WINDOW('tumbling', 5 SECONDS)
GROUP BY device;

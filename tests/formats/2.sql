-- The application of this store: everything that keeps a state. It was begun without what stands
-- behind the line `-- added later`.
--
-- Lines `-- sink` name the outboxes: the bytes that one may take, the milliseconds that an output
-- may wait.

CREATE STREAM Readings (device STRING, line STRING, temp DOUBLE, parts INT, total BIGINT,
  ratio FLOAT, ok BOOLEAN, at TIMESTAMP, raw BYTES, doc JSON)
WITH ('error.strategy' = 'dlq', 'error.dlq.stream' = 'Bad');
CREATE STREAM Acks (device STRING, code INT);
CREATE STREAM Ask (id INT);
CREATE STREAM Timed (device STRING, temp DOUBLE, ts BIGINT) WITH (
  'timestamp.field' = 'ts', 'timestamp.format' = 'ms', 'timestamp.delay' = '2 s',
  'timestamp.late' = 'dlq', 'error.dlq.stream' = 'Bad');
CREATE STREAM Bad (originalEvent STRING, errorMessage STRING, errorType STRING, timestamp BIGINT,
  attemptCount INT, streamName STRING);

-- What waits for sinks: all types of columns, limits, dead letters.
-- sink Wide
INSERT INTO Wide SELECT * FROM Readings;
-- sink Narrow bytes=500
CREATE STREAM Narrow (device STRING, n BIGINT)
WITH ('type' = 'sink', 'extension' = 'log', 'outbox.dead_letter' = 'Bad');
INSERT INTO Narrow SELECT device, count(*) AS n FROM Readings WHERE parts > 80;
-- sink Brief ms=1500
CREATE STREAM Brief (device STRING, n BIGINT)
WITH ('type' = 'sink', 'extension' = 'log', 'outbox.dead_letter' = 'Bad');
INSERT INTO Brief SELECT device, count(*) AS n FROM Acks GROUP BY device;
-- sink Letters
INSERT INTO Letters SELECT errorType, streamName, originalEvent FROM Bad;
-- sink Drawn
INSERT INTO Drawn SELECT device, uuid() AS id, rand() AS number FROM Acks;

-- Windows that slide.
-- sink SlLength
INSERT INTO SlLength SELECT avg(temp) AS a, min(temp) AS lo, max(temp) AS hi, sum(total) AS s
FROM Readings WINDOW('length', 20);
-- sink SlTime
INSERT INTO SlTime SELECT count(*) AS n, sum(temp) AS s, stddev(temp) AS d, median(temp) AS m
FROM Readings WINDOW('time', 4 SECONDS);
-- sink SlGroups
INSERT INTO SlGroups SELECT device, count(*) AS n, first(temp) AS f, last(temp) AS l, count_distinct(parts) AS c
FROM Readings WINDOW('timeLength', 30 SECONDS, 6) GROUP BY device;
-- sink SlExternal
INSERT INTO SlExternal SELECT count(*) AS n FROM Readings WINDOW('externalTime', total, 3 SECONDS);
-- sink SlDelay
INSERT INTO SlDelay SELECT device, temp FROM Readings WINDOW('delay', 900 MILLISECONDS);
-- sink SlSort
INSERT INTO SlSort SELECT min(temp) AS lo, max(temp) AS hi FROM Readings WINDOW('sort', 3, temp, 'desc');
-- sink SlUnique
INSERT INTO SlUnique SELECT count(*) AS n, sum(temp) AS s FROM Readings WINDOW('unique', device);
-- sink SlFirst
INSERT INTO SlFirst SELECT count(*) AS n, sum(temp) AS s FROM Readings WINDOW('firstUniqueTime', device, 5 SECONDS);
-- sink SlFrequent
INSERT INTO SlFrequent SELECT device, count(*) AS n FROM Readings WINDOW('frequent', 2, device);
-- sink SlLossy
INSERT INTO SlLossy SELECT device, count(*) AS n FROM Readings WINDOW('lossyFrequent', 0.2, 0.1, device);
-- sink SlExpression
INSERT INTO SlExpression SELECT count(*) AS n, sum(temp) AS s
FROM Readings WINDOW('expression', 'count() <= 4 AND last.total - first.total < 60000');
-- sink SlExpired
INSERT EXPIRED EVENTS INTO SlExpired SELECT device, temp FROM Readings WINDOW('length', 3);

-- Batches.
-- sink BaTumbling
INSERT INTO BaTumbling SELECT device, count(*) AS n, sum(temp) AS s, avg(ratio) AS a, min(temp) AS lo, max(temp) AS hi,
  stddev(temp) AS d, count_distinct(parts) AS c, collect_list(parts) AS l, collect_set(line) AS ls,
  percentile(temp, 0.9) AS p, approx_percentile(temp, 0.5) AS ap, bool_and(ok) AS ba, bool_or(ok) AS bo,
  mode(parts) AS mo, top_k(line, 2) AS tk, string_agg(line, ',') AS sa, corr(temp, ratio) AS co,
  sum(DISTINCT parts) AS sd, sum(temp) FILTER (WHERE ok) AS sf
FROM Readings WINDOW('tumbling', 20 SECONDS) GROUP BY device;
-- sink BaSession
INSERT INTO BaSession SELECT device, count(*) AS n, sum(temp) AS s
FROM Readings WINDOW('session', 2 SECONDS, device, 500 MILLISECONDS) GROUP BY device;
-- sink BaLength
INSERT INTO BaLength SELECT count(*) AS n, sum(temp) AS s FROM Readings WINDOW('lengthBatch', 7);
-- sink BaTime
INSERT INTO BaTime SELECT device, temp FROM Readings WINDOW('timeBatch', 6 SECONDS);
-- sink BaHop
INSERT INTO BaHop SELECT count(*) AS n, max(temp) AS hi FROM Readings WINDOW('hop', 6 SECONDS, 2 SECONDS);
-- sink BaExternal
INSERT INTO BaExternal SELECT count(*) AS n FROM Readings WINDOW('externalTimeBatch', total, 4 SECONDS);
-- sink BaCron
INSERT INTO BaCron SELECT count(*) AS n, sum(temp) AS s FROM Readings WINDOW('cron', '*/10 * * * * *');
-- sink BaExpression
INSERT INTO BaExpression SELECT count(*) AS n, sum(temp) AS s FROM Readings WINDOW('expressionBatch', 'count() <= 3');
-- sink BaState
INSERT INTO BaState SELECT count(*) AS n, sum(temp) AS s FROM Readings WINDOW('state', temp > 60, temp < 15);

-- Groups without an end.
-- sink Ever
INSERT INTO Ever SELECT line, count(*) AS n, minForever(temp) AS lo, maxForever(temp) AS hi, sum(total) AS s,
  approx_count_distinct(device) AS c, var_pop(temp) AS v
FROM Readings GROUP BY line;
-- sink Once
INSERT INTO Once SELECT DISTINCT device, parts FROM Readings;

-- Analytic functions.
-- sink Looks
INSERT INTO Looks SELECT device, lag(temp, 2) OVER (PARTITION BY device) AS before, delta(temp) OVER (PARTITION BY device) AS step,
  had_changed(line) OVER (PARTITION BY device WHEN ok) AS changed, lag(parts) AS any_before
FROM Readings;

-- Output rates.
-- sink RaLast
INSERT INTO RaLast SELECT device, count(*) AS n FROM Readings WINDOW('time', 1 MINUTE) GROUP BY device
OUTPUT LAST EVERY 5 SECONDS;
-- sink RaSnapshot
INSERT INTO RaSnapshot SELECT device, max(temp) AS hi FROM Readings WINDOW('length', 8) GROUP BY device
OUTPUT SNAPSHOT EVERY 7 SECONDS;
-- sink RaFirst
INSERT INTO RaFirst SELECT device, temp FROM Readings OUTPUT FIRST EVERY 3 SECONDS;
-- sink RaEvents
INSERT INTO RaEvents SELECT device, temp FROM Readings OUTPUT ALL EVERY 5 EVENTS;

-- Joins, tables, named windows, subqueries.
-- sink Joined
INSERT INTO Joined SELECT r.device, r.temp, a.code
FROM Readings WINDOW('time', 8 SECONDS) AS r LEFT JOIN Acks WINDOW('length', 4) AS a ON r.device = a.device;
CREATE TABLE Newest (device STRING PRIMARY KEY, line STRING, temp DOUBLE)
  WITH ('index' = 'line', 'max_rows' = '3', 'eviction' = 'lru', 'ttl' = '40 s');
CREATE TABLE Codes (device STRING, code INT);
-- sink Before
INSERT INTO Before SELECT r.device, r.temp, n.temp AS before FROM Readings AS r JOIN Newest AS n ON r.device = n.device;
UPSERT INTO Newest SELECT device, line, temp FROM Readings;
UPDATE Newest SET temp = 0.0 - Newest.temp FROM Acks AS a WHERE Newest.device = a.device AND a.code = 7;
INSERT INTO Codes SELECT device, code FROM Acks WHERE code < 5;
DELETE FROM Codes USING Acks AS a WHERE Codes.device = a.device AND a.code = 9;
-- sink Coded
INSERT INTO Coded SELECT q.id, c.device, c.code FROM Ask AS q CROSS JOIN Codes AS c;
CREATE WINDOW Shared (device STRING, temp DOUBLE) WINDOW('length', 6);
INSERT INTO Shared SELECT device, temp FROM Readings WHERE ok;
-- sink Hot
INSERT INTO Hot SELECT device, max(temp) AS peak, count(*) AS n FROM Shared GROUP BY device;
-- sink Nested
INSERT INTO Nested SELECT max(t.s) AS s FROM
  (SELECT device, sum(temp) AS s FROM Readings WINDOW('length', 4) GROUP BY device) AS t WINDOW('length', 5);

-- Patterns.
-- sink PaSilent
INSERT INTO PaSilent SELECT a.device AS device, b.temp - a.temp AS rise, count(b) AS n
FROM PATTERN (EVERY a=Readings[temp > 40] -> b=Readings[device = a.device AND temp > a.temp]{1,3}
  -> NOT Acks[device = a.device] FOR 3 SECONDS WITHIN 30 SECONDS);
-- sink PaBoth
INSERT INTO PaBoth SELECT a.code AS code, r.temp AS temp
FROM PATTERN (EVERY (a=Acks AND r=Readings[temp > 50]) -> l=Readings[temp < 20] WITHIN 20 SECONDS);
-- sink PaKeys
INSERT INTO PaKeys SELECT a.temp AS a, b.temp AS b, sum(m.temp) AS s
FROM PATTERN (EVERY a=Readings[ok] -> m=Readings{2,} -> b=Readings[NOT ok] WITHIN 12 EVENTS) PARTITION BY device;
-- sink PaFalls
INSERT INTO PaFalls SELECT low, back FROM Readings MATCH_RECOGNIZE (
  PARTITION BY device ORDER BY event_timestamp()
  MEASURES LAST(down.temp) AS low, up.temp AS back
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (start down+ up) WITHIN 1 MINUTE
  DEFINE down AS temp < LAST(start.temp), up AS temp > start.temp);

-- Partitions.
-- sink Peaks
-- sink Keyed
PARTITION WITH (device OF Readings, 'partition.idle' = '1 min') BEGIN
  INSERT INTO #Smooth SELECT device, avg(temp) AS temp FROM Readings WINDOW('length', 3);
  INSERT INTO Peaks SELECT device, max(temp) AS peak FROM #Smooth WINDOW('lengthBatch', 3);
END;
INSERT INTO Keyed SELECT device, sum(temp) AS s, lag(temp) AS l FROM Readings WINDOW('length', 4) PARTITION BY device;

-- Triggers.
CREATE TRIGGER Beat AT EVERY 9 SECONDS;
CREATE TRIGGER Minute AT CRON '30 * * * * *';
CREATE TRIGGER Boot AT START;
-- sink Beats
INSERT INTO Beats SELECT 'beat' AS what, triggered_time AS t FROM Beat;
INSERT INTO Beats SELECT 'minute' AS what, triggered_time AS t FROM Minute;
INSERT INTO Beats SELECT 'boot' AS what, triggered_time AS t FROM Boot;

-- Aggregations over durations.
CREATE AGGREGATION PerLine AS
SELECT line, avg(temp) AS t, count(*) AS n, median(temp) AS m FROM Readings
GROUP BY line AGGREGATE BY at EVERY SECONDS, MINUTES, HOURS, YEARS;
-- sink Rolled
INSERT INTO Rolled SELECT AGG_TIMESTAMP, p.line AS line, t, n, m
FROM Ask AS a JOIN PerLine AS p WITHIN '2026-03-01', '2026-03-02' PER 'minutes';

-- Rows that wait for their time.
-- sink EvRows
INSERT INTO EvRows SELECT device, temp, ts FROM Timed;
-- sink EvBatches
INSERT INTO EvBatches SELECT device, count(*) AS n, sum(temp) AS s FROM Timed WINDOW('tumbling', 4 SECONDS) GROUP BY device;

-- added later
-- sink Added
INSERT INTO Added SELECT device, temp FROM Readings WHERE temp > 60;

-- The log files of machines, line by line, and each line that is an error to a broker over TLS.
CREATE STREAM Lines (at STRING, level STRING, message STRING, file STRING) WITH (
  'type' = 'source', 'extension' = 'file', 'format' = 'regex', 'file.path.column' = 'file',
  'regex.pattern' = '^(?<at>\S+) +(?<level>[A-Z]+) +(?<message>.*)$',
  'regex.no_match' = 'skip');                 -- such as the further lines of a stack trace

CREATE STREAM Errors (at STRING, level STRING, message STRING, file STRING) WITH (
  'type' = 'sink', 'extension' = 'mqtt', 'format' = 'json');

INSERT INTO Errors SELECT at, level, message, file FROM Lines WHERE level IN ('ERROR', 'FATAL');

INSERT INTO Alerts SELECT device, tmp AS temp FROM Readings;
INSERT INTO Alerts SELECT device, temp FROM Reading;
CREATE STREAM Pumps (device STRNG, rate DOUBLE);
INSERT INTO Alerts SELECT device, rate AS temp FROM Pumps;
INSERT INTO Dry SELECT device Readings;
INSERT INTO Alerts SELECT device, temp FROM Dry;

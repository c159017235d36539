INSERT INTO Alerts SELECT device, tmp AS temp FROM Readings;
INSERT INTO Alerts SELECT device, temp FROM Reading;

CREATE TABLE market_breadth (date date, exchange text, advances int, declines int);
CREATE INDEX ON market_breadth (exchange, date);
INSERT INTO market_breadth
SELECT date '2025-01-01' + day, exchange, 1500 + day * 3 % 700, 1400 - day * 5 % 600
FROM (VALUES ('NASDAQ'), ('NYSE')) AS e (exchange), generate_series(1, 250) AS day;

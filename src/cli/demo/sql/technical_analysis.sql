CREATE TABLE usstockseod (ticker text, date date, close numeric);
CREATE INDEX ON usstockseod (ticker, date);
INSERT INTO usstockseod
SELECT ticker, date '2025-01-01' + day, round((base + 9 * sin(day / 7.0))::numeric, 2)
FROM (VALUES ('AAPL', 243), ('AMZN', 219), ('GOOGL', 189), ('JPM', 240),
             ('META', 585), ('MSFT', 418), ('NVDA', 134), ('TSLA', 379)) AS stock (ticker, base),
     generate_series(1, 250) AS day;

CREATE TABLE key_indicators (date date, ticker text, value numeric);
CREATE INDEX ON key_indicators (ticker);
INSERT INTO key_indicators SELECT date, ticker, round(close / 10, 3) FROM usstockseod;

CREATE TABLE metadata (last_update date);
INSERT INTO metadata VALUES ('2025-01-01');

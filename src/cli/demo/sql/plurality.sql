CREATE TABLE rs_industry_groups (date date, industry_group text, strength numeric);
CREATE INDEX ON rs_industry_groups (industry_group, date);
INSERT INTO rs_industry_groups
SELECT date '2025-01-01' + day, industry_group, round((50 + 40 * sin(day / 9.0 + n))::numeric, 1)
FROM (VALUES ('Banks', 1), ('Biotech', 2), ('Gold', 3), ('Retail', 4), ('Semiconductors', 5),
             ('Software', 6)) AS g (industry_group, n),
     generate_series(1, 250) AS day;

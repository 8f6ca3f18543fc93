-- The charges, and the role under which the agent reads them: it owns nothing and may change nothing.
CREATE TABLE charges (
    id integer PRIMARY KEY,
    customer_id text NOT NULL,
    day date NOT NULL,
    cents integer NOT NULL,
    card text NOT NULL
);
INSERT INTO charges
SELECT number, 'C-' || 1001 + number % 30, date '2026-05-01' + number / 30, 900 + 100 * (number % 7), '4242' || number
FROM generate_series(1, 300) AS number;
INSERT INTO charges
SELECT id + 1000, customer_id, day, cents, card FROM charges WHERE customer_id IN ('C-1004', 'C-1010') AND day = '2026-05-03';
CREATE ROLE desk_reader LOGIN;
GRANT SELECT ON charges TO desk_reader;

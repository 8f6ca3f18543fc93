-- One batch of a writer's completions and admissions in one statement, which is one transaction and one round trip.
-- It does what is asked where all of it fits; where anything does not, it raises RM001, nothing is written, and the
-- caller decides one by one (remit.adapters.journal.admission). So it decides nothing but "everything fits".
-- A run is its worker's: what another asks for it does not fit.
--
-- READ COMMITTED is enough, and exact: what is counted against a limit is locked first and counted by a later
-- statement, or by the very upsert that holds the row. Locks are taken in one order by everybody: intents, balances
-- by scope, runs, windows by key. The clock is read after the last of them.
CREATE OR REPLACE FUNCTION commit_batch(
    writer_id bigint, batch_number bigint, told_us bigint, plan jsonb,
    outcomes bytea[], results bytea[], endings bytea[], intents bytea[]
) RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE
    closed_count bigint;
    misfits boolean;
    crossed_scopes text[];
    crossed_thresholds int[];
    ended int[] := '{}';
    asking text := plan ->> 'worker';
    asked_count int := coalesce(array_length(intents, 1), 0);
    now_us bigint;
    numbers bigint[];
    run_ids text[] := ARRAY (SELECT jsonb_array_elements_text(plan -> 'runs'));
    control_scopes text[] := ARRAY (SELECT jsonb_array_elements_text(plan -> 'controls'));
    ending_ids text[];
BEGIN
    -- OFFSET 0, and arrays where there is a join: rows are looked up by their keys, however small the table was
    -- when the plan was made
    SELECT array_agg(known.seq ORDER BY one.place) INTO numbers
    FROM jsonb_to_recordset(plan -> 'completions') AS one(place int, id text)
    CROSS JOIN LATERAL (SELECT seq FROM call WHERE call.id = one.id OFFSET 0) AS known;
    IF coalesce(array_length(numbers, 1), 0) <> coalesce(array_length(outcomes, 1), 0) THEN
        RAISE EXCEPTION 'does not fit' USING ERRCODE = 'RM001';
    END IF;
    WITH asked AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(plan -> 'completions') AS one(
            place int, state text, at bigint, "read" int, written int, cache_read int, cache_write int,
            cost bigint, presumed boolean, exposes boolean, saved bigint, assumed boolean)
    ), freed AS (
        -- a call that is presumed spent already is left alone, and so does not fit
        DELETE FROM inflight WHERE seq = ANY (numbers) AND presumed = 0 RETURNING seq, held, scopes
    ), closed AS MATERIALIZED (
        SELECT asked.*, freed.*, CASE WHEN presumed THEN held ELSE cost END AS charged
        FROM asked JOIN freed ON freed.seq = numbers[place]
    ), noted AS (
        INSERT INTO done (seq, state, at, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
                          cost, exposes, result, saved, presumed, assumed)
        SELECT seq, state, at, "read", written, cache_read, cache_write,
               charged, exposes, results[place], saved, CASE WHEN presumed THEN charged ELSE 0 END, assumed
        FROM closed
    ), settled AS MATERIALIZED (
        SELECT scope ->> 0 AS scope, (scope ->> 1)::numeric AS cap, (scope ->> 2)::int AS threshold, held, charged,
               CASE WHEN presumed THEN charged ELSE 0 END AS presumed
        FROM closed, json_array_elements(scopes::json) AS scope
    ), wanted AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(plan -> 'balances') AS one(scope text, held bigint, room bigint)
    ), moved AS (
        INSERT INTO balance AS kept (scope, spent, held, presumed)
        SELECT scope, sum(spent), sum(held), sum(presumed) FROM (
            SELECT scope, charged AS spent, -held AS held, presumed FROM settled
            UNION ALL SELECT scope, 0, held, 0 FROM wanted
        ) AS move GROUP BY scope ORDER BY scope
        ON CONFLICT (scope) DO UPDATE
        SET spent = kept.spent + excluded.spent, held = kept.held + excluded.held,
            presumed = kept.presumed + excluded.presumed
        RETURNING scope, spent, held
    ), crossed AS (
        SELECT DISTINCT scope, threshold FROM settled JOIN moved USING (scope)
        WHERE threshold IS NOT NULL AND moved.spent * 100.0 >= cap * threshold
    )
    SELECT (SELECT count(*) FROM closed),
           coalesce((SELECT bool_or(charged > held AND scopes <> '[]') FROM closed), false)
           OR coalesce((SELECT bool_or(moved.spent + moved.held > room) FROM moved JOIN wanted USING (scope)), false),
           (SELECT array_agg(scope ORDER BY scope, threshold) FROM crossed),
           (SELECT array_agg(threshold ORDER BY scope, threshold) FROM crossed)
    INTO closed_count, misfits, crossed_scopes, crossed_thresholds;
    IF misfits OR closed_count <> coalesce(array_length(outcomes, 1), 0) THEN
        RAISE EXCEPTION 'does not fit' USING ERRCODE = 'RM001';
    END IF;
    IF crossed_scopes IS NOT NULL AND EXISTS (
        SELECT FROM unnest(crossed_scopes, crossed_thresholds) AS crossed (scope, threshold)
        WHERE NOT EXISTS (SELECT FROM alert WHERE (alert.scope, alert.threshold) = (crossed.scope, crossed.threshold))
    ) THEN
        RAISE EXCEPTION 'does not fit' USING ERRCODE = 'RM001';
    END IF;
    INSERT INTO audit (body) SELECT unnest(outcomes);

    IF endings <> '{}' THEN
        ending_ids := ARRAY (SELECT one ->> 'id' FROM jsonb_array_elements(plan -> 'endings') AS one);
        -- what such a run has started and nobody ended ends with it
        IF EXISTS (
            SELECT FROM unnest(ending_ids) AS ending (id)
            CROSS JOIN LATERAL (
                SELECT FROM run WHERE parent > ending.id || '.' AND parent < ending.id || '/'
                                  AND status IN ('queued', 'running', 'suspended') OFFSET 0
            ) AS below
        ) THEN
            RAISE EXCEPTION 'does not fit' USING ERRCODE = 'RM001';
        END IF;
        WITH changed AS (
            UPDATE run SET status = one.status, ended_at = one.ended_at, ready_at = NULL, answer = one.answer, code = one.code,
                           message = one.message
            FROM jsonb_to_recordset(plan -> 'endings') AS one(
                place int, id text, status text, before jsonb, ended_at bigint, answer text, code text, message text)
            WHERE run.id = ANY (ending_ids) AND run.id = one.id AND one.before ? run.status AND run.worker = asking
            RETURNING one.place
        )
        SELECT coalesce(array_agg(place ORDER BY place), '{}') INTO ended FROM changed;
        INSERT INTO audit (body) SELECT endings[place] FROM unnest(ended) AS place;
    END IF;

    IF asked_count > 0 THEN
        PERFORM pg_advisory_xact_lock(key) FROM (
            SELECT DISTINCT window_lock(one.key) AS key
            FROM jsonb_to_recordset(plan -> 'windows') AS one(key text) ORDER BY 1
        ) AS keys;
        now_us := coalesce(told_us, database_us());
        SELECT coalesce(bool_or(counted.count > one.spare), false) INTO misfits
        FROM jsonb_to_recordset(plan -> 'windows') AS one(key text, reach bigint, spare bigint)
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(n), 0) AS count FROM rate_event
            WHERE rate_event.key = one.key AND at > now_us - one.reach
        ) AS counted;
        IF misfits
            OR EXISTS (SELECT FROM control WHERE scope = ANY (control_scopes))
            OR cardinality(run_ids) <> (SELECT count(*) FROM run 
                                    WHERE id = ANY (run_ids) AND status = 'running' AND worker = asking)
        THEN
            RAISE EXCEPTION 'does not fit' USING ERRCODE = 'RM001';
        END IF;
        numbers := ARRAY (SELECT nextval('audit_seq') FROM generate_series(1, asked_count));
        INSERT INTO call (seq, id, kind, resource, digest, at, content)
        SELECT numbers[place], id, kind, resource, decode(digest, 'hex'), at, decode(content, 'hex')
        FROM jsonb_to_recordset(plan -> 'admissions') AS one(
            place int, id text, kind text, resource text, digest text, at bigint, content text);  -- an action that was begun before violates its key, which does not fit either
        INSERT INTO audit (seq, body) SELECT * FROM unnest(numbers, intents);
        INSERT INTO inflight (seq, held, scopes, presumed, expires_at)
        SELECT numbers[place], held, scopes, 0, expires_at
        FROM jsonb_to_recordset(plan -> 'admissions') AS one(place int, held bigint, scopes text, expires_at bigint);
        DELETE FROM rate_event USING jsonb_to_recordset(plan -> 'windows') AS one(key text, span bigint, width bigint)
        WHERE rate_event.key = one.key AND rate_event.at <= now_us - one.span - one.width;
        INSERT INTO rate_event AS kept (key, at, n)
        SELECT key, now_us / width * width, added
        FROM jsonb_to_recordset(plan -> 'windows') AS one(key text, width bigint, added int)
        ON CONFLICT (key, at) DO UPDATE SET n = kept.n + excluded.n;
    END IF;
    PERFORM mark_batch(writer_id, batch_number, ended);
    RETURN ended;
END $$

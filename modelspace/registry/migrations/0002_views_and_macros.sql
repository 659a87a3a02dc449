-- What makes plain SQL enough: SELECT affinity('a', 'b'), FROM nearest('a', 5).
--
-- A macro is pasted into the caller's query, names and all. So every alias and column that an argument could meet in
-- here is called zq_..., and tables are written main.x, which no WITH x of the caller can shadow.
-- An unknown name must be an error, not an empty answer; error() stands in a WHERE or a CASE that no optimizer drops.
--
-- The affinity of two models is read from the later one's Gram row where that reaches the earlier one, and is the inner
-- product of the two vectors otherwise; entries that the shorter vector lacks are zero. Equal affinities keep the order
-- in which the models were added.

CREATE MACRO affinity_in(space, a, b) AS (
    SELECT CASE
        WHEN zq_spaces = 0
            THEN error('no space ' || coalesce('''' || space || '''', 'yet: the registry is empty'))
        WHEN a IS NULL OR b IS NULL THEN NULL
        WHEN zq_a IS NULL THEN error('no model ''' || a || ''' in the space ''' || space || '''')
        WHEN zq_b IS NULL THEN error('no model ''' || b || ''' in the space ''' || space || '''')
        WHEN zq_a.p = zq_b.p THEN 1.0::DOUBLE
        ELSE coalesce(
            CASE WHEN zq_a.p > zq_b.p THEN zq_a.g[zq_b.p + 1] ELSE zq_b.g[zq_a.p + 1] END,
            list_inner_product(
                zq_a.v[1:least(len(zq_a.v), len(zq_b.v))],
                zq_b.v[1:least(len(zq_a.v), len(zq_b.v))]
            )
        )
    END
    FROM (
        SELECT
            (
                SELECT count(*)
                FROM (SELECT zq_s.space_id AS zq_i, zq_s.name AS zq_n FROM main.spaces zq_s) zq_t
                WHERE zq_t.zq_i = space OR zq_t.zq_n = space
            ) AS zq_spaces,
            (
                SELECT {'p': zq_e.zq_p, 'v': zq_e.zq_v, 'g': zq_e.zq_g}
                FROM (
                    SELECT zq_s.space_id AS zq_i, zq_s.name AS zq_n, zq_m.name AS zq_o,
                        zq_x.position AS zq_p, zq_x.vector AS zq_v, zq_x.affinities AS zq_g
                    FROM main.embeddings zq_x
                    JOIN main.models zq_m ON zq_m.model_id = zq_x.model_id
                    JOIN main.spaces zq_s ON zq_s.space_id = zq_x.space_id
                ) zq_e
                WHERE (zq_e.zq_i = space OR zq_e.zq_n = space) AND zq_e.zq_o = a
            ) AS zq_a,
            (
                SELECT {'p': zq_e.zq_p, 'v': zq_e.zq_v, 'g': zq_e.zq_g}
                FROM (
                    SELECT zq_s.space_id AS zq_i, zq_s.name AS zq_n, zq_m.name AS zq_o,
                        zq_x.position AS zq_p, zq_x.vector AS zq_v, zq_x.affinities AS zq_g
                    FROM main.embeddings zq_x
                    JOIN main.models zq_m ON zq_m.model_id = zq_x.model_id
                    JOIN main.spaces zq_s ON zq_s.space_id = zq_x.space_id
                ) zq_e
                WHERE (zq_e.zq_i = space OR zq_e.zq_n = space) AND zq_e.zq_o = b
            ) AS zq_b
    ) zq_pair
);

CREATE MACRO affinity(a, b) AS
    affinity_in((SELECT zq_d.name FROM main.spaces zq_d WHERE zq_d.is_default), a, b);

CREATE MACRO nearest_in(space, name, k := 10) AS TABLE
    SELECT zq_rank AS rank, zq_other AS name, zq_score AS affinity,
        sqrt(greatest(0.0::DOUBLE, 2.0::DOUBLE - 2.0::DOUBLE * zq_score)) AS distance, zq_task AS task
    FROM (
        SELECT zq_other, zq_task, zq_score, row_number() OVER (ORDER BY zq_score DESC, zq_place) AS zq_rank
        FROM (
            SELECT zq_o.zq_o AS zq_other, zq_o.zq_t AS zq_task, zq_o.zq_p AS zq_place, coalesce(
                CASE WHEN zq_o.zq_p > zq_q.zq_p THEN zq_o.zq_g[zq_q.zq_p + 1] ELSE zq_q.zq_g[zq_o.zq_p + 1] END,
                list_inner_product(
                    zq_o.zq_v[1:least(len(zq_o.zq_v), len(zq_q.zq_v))],
                    zq_q.zq_v[1:least(len(zq_o.zq_v), len(zq_q.zq_v))]
                )
            ) AS zq_score
            FROM (
                SELECT zq_s.space_id AS zq_i, zq_s.name AS zq_n, zq_m.name AS zq_o, zq_m.task AS zq_t,
                    zq_x.position AS zq_p, zq_x.vector AS zq_v, zq_x.affinities AS zq_g
                FROM main.embeddings zq_x
                JOIN main.models zq_m ON zq_m.model_id = zq_x.model_id
                JOIN main.spaces zq_s ON zq_s.space_id = zq_x.space_id
            ) zq_o
            JOIN (
                SELECT zq_s.space_id AS zq_i, zq_s.name AS zq_n, zq_m.name AS zq_o,
                    zq_x.position AS zq_p, zq_x.vector AS zq_v, zq_x.affinities AS zq_g
                FROM main.embeddings zq_x
                JOIN main.models zq_m ON zq_m.model_id = zq_x.model_id
                JOIN main.spaces zq_s ON zq_s.space_id = zq_x.space_id
            ) zq_q ON zq_q.zq_i = zq_o.zq_i AND zq_q.zq_p <> zq_o.zq_p
            WHERE (zq_q.zq_i = space OR zq_q.zq_n = space) AND zq_q.zq_o = name
        ) zq_scored
    ) zq_ranked
    WHERE zq_rank <= k
    UNION ALL
    SELECT NULL, NULL, NULL, NULL, NULL
    FROM (
        SELECT
            (
                SELECT count(*)
                FROM (SELECT zq_s.space_id AS zq_i, zq_s.name AS zq_n FROM main.spaces zq_s) zq_t
                WHERE zq_t.zq_i = space OR zq_t.zq_n = space
            ) AS zq_spaces,
            (
                SELECT count(*)
                FROM (
                    SELECT zq_s.space_id AS zq_i, zq_s.name AS zq_n, zq_m.name AS zq_o
                    FROM main.embeddings zq_x
                    JOIN main.models zq_m ON zq_m.model_id = zq_x.model_id
                    JOIN main.spaces zq_s ON zq_s.space_id = zq_x.space_id
                ) zq_e
                WHERE (zq_e.zq_i = space OR zq_e.zq_n = space) AND zq_e.zq_o = name
            ) AS zq_models
    ) zq_known
    WHERE CASE
        WHEN zq_spaces = 0
            THEN error('no space ' || coalesce('''' || space || '''', 'yet: the registry is empty'))
        WHEN zq_models = 0
            THEN error('no model ' || coalesce('''' || name || '''', 'NULL') || ' in the space ''' || space || '''')
        ELSE false
    END
    ORDER BY rank;

CREATE MACRO nearest(name, k := 10) AS TABLE
    FROM nearest_in((SELECT zq_d.name FROM main.spaces zq_d WHERE zq_d.is_default), name, k);

CREATE VIEW catalog AS
    SELECT m.name, m.task, m.architecture, m.data, m.layer, m.parameters, m.input_height, m.input_width,
        coalesce(s.spaces, []) AS spaces, m.tags, m.uri, m.added_at
    FROM main.models m
    LEFT JOIN (
        SELECT e.model_id, list(s.name ORDER BY s.name) AS spaces
        FROM main.embeddings e
        JOIN main.spaces s ON s.space_id = e.space_id
        GROUP BY e.model_id
    ) s ON s.model_id = m.model_id
    ORDER BY m.model_id;

-- Every two models of the default space once; a was added before b.
CREATE VIEW pairs AS
    SELECT a.name AS a, b.name AS b, p.affinity, sqrt(greatest(0.0::DOUBLE, 2.0::DOUBLE - 2.0::DOUBLE * p.affinity)) AS distance
    FROM (
        SELECT g.space_id, g.earlier, g.position AS later, g.affinity
        FROM (
            SELECT e.space_id, e.position, generate_subscripts(e.affinities, 1) - 1 AS earlier, unnest(e.affinities) AS affinity
            FROM main.embeddings e
            JOIN main.spaces s ON s.space_id = e.space_id
            WHERE s.is_default
        ) g
        WHERE g.earlier < g.position
        UNION ALL
        SELECT e.space_id, f.position, e.position,
            list_inner_product(
                e.vector[1:least(len(e.vector), len(f.vector))],
                f.vector[1:least(len(e.vector), len(f.vector))]
            )
        FROM main.embeddings e
        JOIN main.spaces s ON s.space_id = e.space_id
        JOIN main.embeddings f ON f.space_id = e.space_id AND f.position < e.position AND f.position >= len(e.affinities)
        WHERE s.is_default
    ) p
    JOIN main.embeddings ea ON ea.space_id = p.space_id AND ea.position = p.earlier
    JOIN main.embeddings eb ON eb.space_id = p.space_id AND eb.position = p.later
    JOIN main.models a ON a.model_id = ea.model_id
    JOIN main.models b ON b.model_id = eb.model_id;

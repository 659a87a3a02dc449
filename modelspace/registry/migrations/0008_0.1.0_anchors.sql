-- Spaces of many models. Up to a number of models (modelspace/spaces/coordinates.py) a space stores exact vectors and
-- affinities. Past it, it has anchors: some of its models, fixed, whose maps are kept here. Each model of such a space
-- has float32 coordinates on the anchors, one after the other; one that was added past that number has nothing else (its
-- vector and affinities are empty lists), so that adding it costs the same however many there are.

-- The position of the next model of a space with anchors; NULL without, where it is the number of models. The number of
-- models; NULL: count them. And a number that changes whenever vectors of models change that stay in the space.
ALTER TABLE spaces ADD COLUMN next_position BIGINT;
ALTER TABLE spaces ADD COLUMN n_models BIGINT;
ALTER TABLE spaces ADD COLUMN epoch BIGINT DEFAULT 0;

ALTER TABLE embeddings ADD COLUMN coordinates FLOAT[];
ALTER TABLE embeddings ADD COLUMN coordinates_checksum UINTEGER;

-- The model is that which the anchor was; it may have been removed since. `factor` is the anchor's row of the Cholesky
-- factor of the anchors' affinities, up to and including the diagonal.
CREATE TABLE anchors (
    space_id VARCHAR NOT NULL,
    axis INTEGER NOT NULL,
    model_id BIGINT NOT NULL,
    factor DOUBLE[] NOT NULL,
    factor_checksum UINTEGER
);

-- The blocks of the anchors' maps, in parts, as in the table `maps`.
CREATE TABLE anchor_maps (
    space_id VARCHAR NOT NULL,
    axis INTEGER NOT NULL,
    first_image INTEGER NOT NULL,
    n_images INTEGER NOT NULL,
    part INTEGER NOT NULL,
    codes BLOB NOT NULL USING COMPRESSION uncompressed,
    scales BLOB NOT NULL USING COMPRESSION uncompressed,
    checksum UINTEGER
);

-- The macros and the view of migration 2, with coordinates: what is not stored as an affinity is the inner product of the
-- coordinates on the anchors, an approximation, or without anchors that of the vectors.

CREATE OR REPLACE MACRO affinity_in(space, a, b) AS (
    SELECT CASE
        WHEN zq_spaces = 0
            THEN error('no space ' || coalesce('''' || space || '''', 'yet: the registry is empty'))
        WHEN a IS NULL OR b IS NULL THEN NULL
        WHEN zq_a IS NULL THEN error('no model ''' || a || ''' in the space ''' || space || '''')
        WHEN zq_b IS NULL THEN error('no model ''' || b || ''' in the space ''' || space || '''')
        WHEN zq_a.p = zq_b.p THEN 1.0::DOUBLE
        ELSE coalesce(
            CASE WHEN zq_a.p > zq_b.p THEN zq_a.g[zq_b.p + 1] ELSE zq_b.g[zq_a.p + 1] END,
            CASE WHEN zq_a.c IS NOT NULL AND zq_b.c IS NOT NULL THEN list_inner_product(zq_a.c, zq_b.c)::DOUBLE END,
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
                SELECT {'p': zq_e.zq_p, 'v': zq_e.zq_v, 'g': zq_e.zq_g, 'c': zq_e.zq_c}
                FROM (
                    SELECT zq_s.space_id AS zq_i, zq_s.name AS zq_n, zq_m.name AS zq_o,
                        zq_x.position AS zq_p, zq_x.vector AS zq_v, zq_x.affinities AS zq_g,
                        zq_x.coordinates AS zq_c
                    FROM main.embeddings zq_x
                    JOIN main.models zq_m ON zq_m.model_id = zq_x.model_id
                    JOIN main.spaces zq_s ON zq_s.space_id = zq_x.space_id
                ) zq_e
                WHERE (zq_e.zq_i = space OR zq_e.zq_n = space) AND zq_e.zq_o = a
            ) AS zq_a,
            (
                SELECT {'p': zq_e.zq_p, 'v': zq_e.zq_v, 'g': zq_e.zq_g, 'c': zq_e.zq_c}
                FROM (
                    SELECT zq_s.space_id AS zq_i, zq_s.name AS zq_n, zq_m.name AS zq_o,
                        zq_x.position AS zq_p, zq_x.vector AS zq_v, zq_x.affinities AS zq_g,
                        zq_x.coordinates AS zq_c
                    FROM main.embeddings zq_x
                    JOIN main.models zq_m ON zq_m.model_id = zq_x.model_id
                    JOIN main.spaces zq_s ON zq_s.space_id = zq_x.space_id
                ) zq_e
                WHERE (zq_e.zq_i = space OR zq_e.zq_n = space) AND zq_e.zq_o = b
            ) AS zq_b
    ) zq_pair
);

-- All models of the space are scored by their rows in `embeddings` alone; `models` is joined to the k that are left: a join
-- before that would copy every vector.
CREATE OR REPLACE MACRO nearest_in(space, name, k := 10) AS TABLE
    SELECT zq_b.zq_rank AS rank, zq_m.name AS name, zq_b.zq_score AS affinity,
        sqrt(greatest(0.0::DOUBLE, 2.0::DOUBLE - 2.0::DOUBLE * zq_b.zq_score)) AS distance, zq_m.task AS task
    FROM (
        SELECT zq_other, zq_score, row_number() OVER (ORDER BY zq_score DESC, zq_place) AS zq_rank
        FROM (
            SELECT zq_o.zq_m AS zq_other, zq_o.zq_p AS zq_place, coalesce(
                CASE WHEN zq_o.zq_p > zq_q.zq_p THEN zq_o.zq_g[zq_q.zq_p + 1] ELSE zq_q.zq_g[zq_o.zq_p + 1] END,
                CASE WHEN zq_o.zq_c IS NOT NULL AND zq_q.zq_c IS NOT NULL
                    THEN list_inner_product(zq_o.zq_c, zq_q.zq_c)::DOUBLE END,
                list_inner_product(
                    zq_o.zq_v[1:least(len(zq_o.zq_v), len(zq_q.zq_v))],
                    zq_q.zq_v[1:least(len(zq_o.zq_v), len(zq_q.zq_v))]
                )
            ) AS zq_score
            FROM (
                SELECT zq_x.space_id AS zq_i, zq_x.model_id AS zq_m, zq_x.position AS zq_p, zq_x.vector AS zq_v,
                    zq_x.affinities AS zq_g, zq_x.coordinates AS zq_c
                FROM main.embeddings zq_x
            ) zq_o
            JOIN (
                SELECT zq_s.space_id AS zq_i, zq_s.name AS zq_n, zq_m.name AS zq_o,
                    zq_x.position AS zq_p, zq_x.vector AS zq_v, zq_x.affinities AS zq_g,
                    zq_x.coordinates AS zq_c
                FROM main.embeddings zq_x
                JOIN main.models zq_m ON zq_m.model_id = zq_x.model_id
                JOIN main.spaces zq_s ON zq_s.space_id = zq_x.space_id
            ) zq_q ON zq_q.zq_i = zq_o.zq_i AND zq_q.zq_p <> zq_o.zq_p
            WHERE (zq_q.zq_i = space OR zq_q.zq_n = space) AND zq_q.zq_o = name
        ) zq_scored
    ) zq_b
    JOIN main.models zq_m ON zq_m.model_id = zq_b.zq_other
    WHERE zq_b.zq_rank <= k
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

-- Every two models of the default space once; a was added before b.
CREATE OR REPLACE VIEW pairs AS
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
            CASE
                WHEN e.coordinates IS NOT NULL AND f.coordinates IS NOT NULL
                    THEN list_inner_product(e.coordinates, f.coordinates)::DOUBLE
                ELSE list_inner_product(
                    e.vector[1:least(len(e.vector), len(f.vector))],
                    f.vector[1:least(len(e.vector), len(f.vector))]
                )
            END
        FROM main.embeddings e
        JOIN main.spaces s ON s.space_id = e.space_id
        JOIN main.embeddings f ON f.space_id = e.space_id AND f.position < e.position AND f.position >= len(e.affinities)
        WHERE s.is_default
    ) p
    JOIN main.embeddings ea ON ea.space_id = p.space_id AND ea.position = p.earlier
    JOIN main.embeddings eb ON eb.space_id = p.space_id AND eb.position = p.later
    JOIN main.models a ON a.model_id = ea.model_id
    JOIN main.models b ON b.model_id = eb.model_id;

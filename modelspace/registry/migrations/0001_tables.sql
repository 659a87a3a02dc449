-- The tables of a registry; docs/schema.md says what every column means.
--
-- No PRIMARY KEY, no UNIQUE, no foreign keys: DuckDB keeps an index for each of them, and
--  - loses committed updates of an indexed table when it replays its log after a crash (2.0.0; scripts/kill_loop.py),
--  - does not win back the room of rows deleted from an indexed table,
--  - refuses to rename or drop a column that a foreign key refers to, which would block later migrations.
-- There is one writer at a time, and it looks before it inserts; `Registry.check` looks again.

CREATE TABLE meta (
    registry_id UUID NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE migrations (
    number INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL,
    applied_at TIMESTAMP NOT NULL
);

CREATE TABLE probe_sets (
    probe_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    spec VARCHAR NOT NULL,
    n_images INTEGER,
    size INTEGER NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE probe_images (
    probe_id VARCHAR NOT NULL,
    k INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    png BLOB NOT NULL
);

CREATE TABLE spaces (
    space_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    probe_id VARCHAR NOT NULL,
    method VARCHAR NOT NULL,
    scalar VARCHAR NOT NULL,
    canvas INTEGER NOT NULL,
    n_images INTEGER NOT NULL,
    bits INTEGER NOT NULL,
    parameters VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    is_default BOOLEAN NOT NULL,
    generation BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE SEQUENCE model_ids START 1;

CREATE TABLE models (
    model_id BIGINT NOT NULL,
    name VARCHAR NOT NULL,
    uri VARCHAR NOT NULL,
    weights_sha256 VARCHAR NOT NULL,
    identity VARCHAR NOT NULL,
    architecture VARCHAR NOT NULL,
    task VARCHAR,
    data VARCHAR,
    layer VARCHAR NOT NULL,
    layer_found_by VARCHAR NOT NULL,
    output_shape INTEGER[] NOT NULL,
    input_height INTEGER NOT NULL,
    input_width INTEGER NOT NULL,
    preprocessing VARCHAR NOT NULL,
    parameters BIGINT NOT NULL,
    seconds DOUBLE NOT NULL,
    tags MAP(VARCHAR, VARCHAR) NOT NULL,
    added_at TIMESTAMP NOT NULL
);

CREATE TABLE embeddings (
    space_id VARCHAR NOT NULL,
    model_id BIGINT NOT NULL,
    position INTEGER NOT NULL,
    vector DOUBLE[] NOT NULL,
    affinities DOUBLE[] NOT NULL,
    axis INTEGER,
    residual DOUBLE NOT NULL
);

-- A block of maps is cut into parts of less than 4,096 bytes. DuckDB keeps longer strings out of line and then writes
-- a whole row group anew at every checkpoint: adding one model would rewrite the maps of all others. Uncompressed,
-- since reading one value of a ZSTD segment unpacks the 2,048 values around it.
CREATE TABLE maps (
    space_id VARCHAR NOT NULL,
    model_id BIGINT NOT NULL,
    first_image INTEGER NOT NULL,
    n_images INTEGER NOT NULL,
    part INTEGER NOT NULL,
    codes BLOB NOT NULL USING COMPRESSION uncompressed,
    scales BLOB NOT NULL USING COMPRESSION uncompressed
);

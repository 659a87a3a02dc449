-- Tasks of a user, each a data set with labels (or only its name), and what was measured on them. Images are not copied:
-- `location` is the path as the user gave it, and `data_sha256` a fingerprint of the images and their labels ('' where
-- there is only a name).

CREATE SEQUENCE task_ids START 1;

CREATE TABLE tasks (
    task_id BIGINT NOT NULL,
    name VARCHAR NOT NULL,
    location VARCHAR NOT NULL,
    data_sha256 VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    higher_is_better BOOLEAN NOT NULL,
    n_images BIGINT,
    classes VARCHAR[] NOT NULL,
    seed BIGINT NOT NULL,
    added_at TIMESTAMP NOT NULL
);

-- An outcome belongs to weights and a name, and stays when the model is removed: model_id is NULL then. A model that
-- failed on the data has no score, and the reason as its note.
CREATE SEQUENCE outcome_ids START 1;

CREATE TABLE outcomes (
    outcome_id BIGINT NOT NULL,
    task_id BIGINT NOT NULL,
    model_id BIGINT,
    model VARCHAR NOT NULL,
    weights_sha256 VARCHAR NOT NULL,
    score DOUBLE,
    how VARCHAR NOT NULL,
    settings VARCHAR NOT NULL,
    n_train BIGINT,
    seed BIGINT,
    seconds DOUBLE,
    measured_at TIMESTAMP NOT NULL,
    note VARCHAR NOT NULL
);

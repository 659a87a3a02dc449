-- Where the models of a space lie on its map. Stored because the same seed gives another map on another machine, and
-- because a map that people know must not change when a model is added: later models are placed on the one that is there.

CREATE TABLE projections (
    space_id VARCHAR NOT NULL,
    parameters VARCHAR NOT NULL,
    seed BIGINT NOT NULL,
    made_at TIMESTAMP NOT NULL
);

CREATE TABLE projection_points (
    space_id VARCHAR NOT NULL,
    model_id BIGINT NOT NULL,
    x DOUBLE NOT NULL,
    y DOUBLE NOT NULL,
    placed BOOLEAN NOT NULL
);

CREATE VIEW places AS
    SELECT s.name AS space, m.name, p.x, p.y, p.placed
    FROM main.projection_points p
    JOIN main.spaces s ON s.space_id = p.space_id
    JOIN main.models m ON m.model_id = p.model_id
    ORDER BY s.created_at, s.name, m.model_id;

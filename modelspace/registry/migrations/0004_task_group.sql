-- The group of a model's task (2D, 3D, geometric, semantic, or whatever its tag "group" says) as a column: what the
-- pictures colour by where nothing else is asked for.

CREATE OR REPLACE VIEW catalog AS
    SELECT m.name, m.task, m.tags['group'] AS task_group, m.architecture, m.data, m.layer, m.parameters, m.input_height,
        m.input_width, coalesce(s.spaces, []) AS spaces, m.tags, m.uri, m.added_at
    FROM main.models m
    LEFT JOIN (
        SELECT e.model_id, list(s.name ORDER BY s.name) AS spaces
        FROM main.embeddings e
        JOIN main.spaces s ON s.space_id = e.space_id
        GROUP BY e.model_id
    ) s ON s.model_id = m.model_id
    ORDER BY m.model_id;

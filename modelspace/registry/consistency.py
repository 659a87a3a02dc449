"""Consistency checks of the registry. Each check is one SQL query whose rows are the problems."""

from __future__ import annotations

from modelspace.names import readable_name
from modelspace.registry import outcomes, schema
from modelspace.registry.reading import Reader
from modelspace.registry.rows import Problem

#: (message, query). A query returns rows (subject, detail); {} in the message stands for the detail.
_CHECKS = (
    (
        "its {} exists more than once",
        "SELECT 'model ' || name, 'name' FROM main.models GROUP BY name HAVING count(*) > 1"
        " UNION ALL SELECT 'model ' || model_id, 'id' FROM main.models GROUP BY model_id HAVING count(*) > 1"
        " UNION ALL SELECT 'space ' || name, 'name' FROM main.spaces GROUP BY name HAVING count(*) > 1"
        " UNION ALL SELECT 'space ' || space_id, 'id' FROM main.spaces GROUP BY space_id HAVING count(*) > 1"
        " UNION ALL SELECT 'probe set ' || name, 'name' FROM main.probe_sets GROUP BY name HAVING count(*) > 1"
        " UNION ALL SELECT 'probe set ' || probe_id, 'id' FROM main.probe_sets GROUP BY probe_id HAVING count(*) > 1",
    ),
    (
        "there must be one default space, not {}",
        "SELECT 'registry', count(*) FILTER (WHERE is_default) FROM main.spaces"
        " HAVING count(*) > 0 AND count(*) FILTER (WHERE is_default) <> 1",
    ),
    (
        "its probe set {} is not in the registry",
        "SELECT 'space ' || s.name, s.probe_id FROM main.spaces s"
        " ANTI JOIN main.probe_sets p ON p.probe_id = s.probe_id",
    ),
    (
        "it uses more images than the {} of its probe set",
        "SELECT 'space ' || s.name, p.n_images FROM main.spaces s JOIN main.probe_sets p ON p.probe_id = s.probe_id"
        " WHERE s.n_images > p.n_images",
    ),
    (
        "its stored images are not numbered 0..n-1 ({})",
        "SELECT 'probe set ' || p.name, i.n || ' of ' || p.n_images FROM main.probe_sets p JOIN (SELECT probe_id,"
        " count(*) AS n, count(DISTINCT k) AS d, min(k) AS lo, max(k) AS hi FROM main.probe_images GROUP BY probe_id) i"
        " ON i.probe_id = p.probe_id WHERE i.n <> p.n_images OR i.d <> i.n OR i.lo <> 0 OR i.hi <> i.n - 1",
    ),
    (
        "images are stored for a missing probe set",
        "SELECT DISTINCT 'probe set ' || i.probe_id, '' FROM main.probe_images i ANTI JOIN main.probe_sets p"
        " ON p.probe_id = i.probe_id",
    ),
    (
        "its positions are not 0..n-1 ({} models)",
        "SELECT 'space ' || coalesce(s.name, e.space_id), e.n FROM (SELECT space_id, count(*) AS n,"
        " count(DISTINCT position) AS d, min(position) AS lo, max(position) AS hi FROM main.embeddings"
        " GROUP BY space_id) e LEFT JOIN main.spaces s ON s.space_id = e.space_id"
        " WHERE e.d <> e.n OR (e.lo <> 0 OR e.hi <> e.n - 1) AND {exact}",
    ),
    (
        "it is in the space {} more than once",
        "SELECT 'model ' || coalesce(any_value(m.name), e.model_id::VARCHAR), e.space_id FROM main.embeddings e"
        " LEFT JOIN main.models m ON m.model_id = e.model_id GROUP BY e.model_id, e.space_id HAVING count(*) > 1",
    ),
    (
        "no space holds it{}",
        "SELECT 'model ' || m.name, '' FROM main.models m ANTI JOIN main.embeddings e ON e.model_id = m.model_id",
    ),
    (
        "the model is missing, but has an embedding in the space {}",
        "SELECT 'model ' || e.model_id, e.space_id FROM main.embeddings e ANTI JOIN main.models m"
        " ON m.model_id = e.model_id",
    ),
    (
        "the space is missing, but holds an embedding of model {}",
        "SELECT 'space ' || e.space_id, e.model_id FROM main.embeddings e ANTI JOIN main.spaces s"
        " ON s.space_id = e.space_id",
    ),
    (
        "it has maps in the space {}, but no embedding",
        "SELECT DISTINCT 'model ' || p.model_id, p.space_id FROM (SELECT DISTINCT model_id, space_id FROM main.maps) p"
        " ANTI JOIN main.embeddings e ON e.model_id = p.model_id AND e.space_id = p.space_id",
    ),
    (
        "its maps don't cover every image of the space {} once",
        "SELECT 'model ' || coalesce(m.name, e.model_id::VARCHAR), s.name FROM main.embeddings e"
        " JOIN main.spaces s ON s.space_id = e.space_id LEFT JOIN main.models m ON m.model_id = e.model_id"
        " LEFT JOIN (SELECT space_id, model_id, sum(n_images) AS n, bool_and(first_image = before) AS joined FROM ("
        "   SELECT space_id, model_id, first_image, n_images, coalesce(sum(n_images) OVER ("
        "   PARTITION BY space_id, model_id ORDER BY first_image"
        "   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before"
        "   FROM main.maps WHERE part = 0"
        " ) GROUP BY space_id, model_id) b ON b.space_id = e.space_id AND b.model_id = e.model_id"
        " WHERE CASE WHEN s.method = 'blend' THEN b.n IS NOT NULL"
        " ELSE b.n IS DISTINCT FROM s.n_images OR NOT b.joined END",
    ),
    (
        "a block of its maps in the space {} is incomplete",
        "SELECT DISTINCT 'model ' || model_id, space_id FROM main.maps GROUP BY space_id, model_id, first_image"
        " HAVING count(*) <> max(part) + 1 OR count(DISTINCT part) <> count(*) OR min(n_images) <> max(n_images)",
    ),
    (
        "its vector or affinities in the space {} are not numbers from -1 to 1",
        "SELECT 'model ' || coalesce(m.name, e.model_id::VARCHAR), e.space_id FROM main.embeddings e"
        " LEFT JOIN main.models m ON m.model_id = e.model_id WHERE NOT isfinite(e.residual)"
        # The sum of squares is NaN or infinite if any entry is.
        " OR NOT (coalesce(list_inner_product(e.vector, e.vector) BETWEEN 1e-12 AND 1.001, false)"
        " AND len(e.vector) > 0 OR {placed} AND len(e.vector) = 0)"
        " OR NOT coalesce(list_aggregate(e.affinities, 'min') >= -1.001"
        " AND list_aggregate(e.affinities, 'max') <= 1.001, len(e.affinities) = 0)"
        " OR len(e.affinities) > e.position + 1",
    ),
    (
        "its axis {} is outside its vector, or belongs to another model",
        "SELECT 'model ' || coalesce(m.name, e.model_id::VARCHAR), e.axis FROM main.embeddings e"
        " LEFT JOIN main.models m ON m.model_id = e.model_id"
        " WHERE e.axis < 0 OR e.axis >= len(e.vector) OR (e.axis IS NOT NULL AND"
        " (SELECT count(*) FROM main.embeddings f WHERE f.space_id = e.space_id AND f.axis = e.axis) > 1)",
    ),
)

#: The same for coordinates on anchors.
_ANCHOR_CHECKS = (
    (
        "its models' positions are not below its next one ({})",
        "SELECT 'space ' || s.name, s.next_position FROM main.spaces s WHERE s.next_position <="
        " (SELECT max(e.position) FROM main.embeddings e WHERE e.space_id = s.space_id)",
    ),
    (
        "it counts {} models, which is not how many it has",
        "SELECT 'space ' || s.name, s.n_models FROM main.spaces s WHERE s.n_models <>"
        " (SELECT count(*) FROM main.embeddings e WHERE e.space_id = s.space_id)",
    ),
    (
        "its coordinates in the space {} are missing, not finite, or there without anchors",
        "SELECT 'model ' || coalesce(m.name, e.model_id::VARCHAR), s.name FROM main.embeddings e"
        " JOIN main.spaces s ON s.space_id = e.space_id LEFT JOIN main.models m ON m.model_id = e.model_id"
        " WHERE (e.coordinates IS NULL) <> (s.next_position IS NULL) OR e.coordinates IS NOT NULL AND NOT"
        " coalesce(list_inner_product(e.coordinates, e.coordinates) BETWEEN 1e-12 AND 1.001, false)",
    ),
    (
        "its models have {} different numbers of coordinates, or others than it has anchors",
        "SELECT 'space ' || any_value(s.name), count(DISTINCT len(e.coordinates)) FROM main.embeddings e"
        " JOIN main.spaces s ON s.space_id = e.space_id WHERE e.coordinates IS NOT NULL GROUP BY s.space_id, s.method"
        " HAVING count(DISTINCT len(e.coordinates)) <> 1 OR s.method <> 'blend' AND any_value(len(e.coordinates)) <>"
        " (SELECT count(*) FROM main.anchors a WHERE a.space_id = s.space_id)",
    ),
    (
        "its anchors are not numbered 0..n-1 ({})",
        "SELECT 'space ' || coalesce(any_value(s.name), a.space_id), count(*) FROM main.anchors a"
        " LEFT JOIN main.spaces s ON s.space_id = a.space_id GROUP BY a.space_id"
        " HAVING count(DISTINCT axis) <> count(*) OR min(axis) <> 0 OR max(axis) <> count(*) - 1"
        " OR bool_or(len(factor) <> axis + 1) OR any_value(s.next_position) IS NULL",
    ),
    (
        "the maps of its anchor {} don't cover every image once",
        "SELECT 'space ' || s.name, a.axis FROM main.anchors a JOIN main.spaces s ON s.space_id = a.space_id"
        " LEFT JOIN (SELECT space_id, axis, sum(n_images) AS n FROM main.anchor_maps WHERE part = 0"
        " GROUP BY space_id, axis) b"
        " ON b.space_id = a.space_id AND b.axis = a.axis WHERE b.n IS DISTINCT FROM s.n_images",
    ),
)

#: The same for projections, whose tables a registry of an older version lacks.
_PROJECTION_CHECKS = (
    (
        "its projection is stored {} times",
        "SELECT 'space ' || coalesce(any_value(s.name), p.space_id), count(*) FROM main.projections p"
        " LEFT JOIN main.spaces s ON s.space_id = p.space_id GROUP BY p.space_id HAVING count(*) > 1",
    ),
    (
        "the space is missing, but has a projection{}",
        "SELECT 'space ' || p.space_id, '' FROM main.projections p ANTI JOIN main.spaces s ON s.space_id = p.space_id",
    ),
    (
        "it has a point in the projection of the space {}, which is missing",
        "SELECT 'model ' || p.model_id, p.space_id FROM main.projection_points p ANTI JOIN main.projections h"
        " ON h.space_id = p.space_id",
    ),
    (
        "it has a point in the projection of the space {}, which does not hold it",
        "SELECT 'model ' || p.model_id, p.space_id FROM main.projection_points p ANTI JOIN main.embeddings e"
        " ON e.space_id = p.space_id AND e.model_id = p.model_id",
    ),
    (
        "its point in the projection of the space {} is stored twice, or is not finite",
        "SELECT 'model ' || p.model_id, p.space_id FROM main.projection_points p GROUP BY p.space_id, p.model_id"
        " HAVING count(*) > 1 OR NOT bool_and(isfinite(p.x) AND isfinite(p.y))",
    ),
)

#: The same for tasks and outcomes.
_TASK_CHECKS = (
    (
        "its {} exists more than once",
        "SELECT 'task ' || name, 'name' FROM main.tasks GROUP BY name HAVING count(*) > 1"
        " UNION ALL SELECT 'task ' || task_id, 'id' FROM main.tasks GROUP BY task_id HAVING count(*) > 1"
        " UNION ALL SELECT 'outcome ' || outcome_id, 'id' FROM main.outcomes GROUP BY outcome_id HAVING count(*) > 1",
    ),
    (
        "its task {} is missing",
        "SELECT 'outcome ' || o.outcome_id, o.task_id FROM main.outcomes o ANTI JOIN main.tasks t"
        " ON t.task_id = o.task_id",
    ),
    (
        "its model {} is missing",
        "SELECT 'outcome ' || o.outcome_id, o.model FROM main.outcomes o ANTI JOIN main.models m"
        " ON m.model_id = o.model_id WHERE o.model_id IS NOT NULL",
    ),
    (
        "its score {} is not a finite number",
        "SELECT 'outcome ' || outcome_id, score FROM main.outcomes WHERE NOT isfinite(score)",
    ),
)


def problems(registry: Reader) -> list[Problem]:
    """See `Registry.check`."""
    has_anchors = registry.schema_number >= schema.ANCHORS
    placed, exact = ("e.coordinates IS NOT NULL", "s.next_position IS NULL") if has_anchors else ("false", "true")
    checks = [(message, query.replace("{placed}", placed).replace("{exact}", exact)) for message, query in _CHECKS]
    if has_anchors:
        checks += _ANCHOR_CHECKS
    if registry.has_projections():
        checks += _PROJECTION_CHECKS
    if outcomes.has_tables(registry):
        checks += _TASK_CHECKS
    out = [
        Problem(_readable(subject), message.format(readable_name(detail) if isinstance(detail, str) else detail))
        for message, query in checks
        for subject, detail in registry.rows(query)
    ]
    out += [
        Problem(f"outcome {row.outcome_id}", f"of model {row.model} on the task {row.task}: it is not what was stored")
        for row in outcomes.changed(registry)
    ]
    out += _names(registry)
    out += [
        Problem(f"view or macro {name}", "it is not defined as modelspace defines it")
        for name in schema.foreign_definitions(registry.connection)
    ]
    ids = registry.rows("SELECT space_id FROM main.spaces ORDER BY created_at, name")
    for space, (stored,) in zip(registry.spaces(), ids, strict=True):
        if stored != space.spec.space_id:
            out.append(Problem(f"space {space.spec.name}", f"its id {stored} is not that of its definition"))
    identities = dict(registry.rows("SELECT model_id, identity FROM main.models"))
    for row in registry.models():
        if identities.get(row.model_id) != row.card.identity():
            out.append(
                Problem(f"model {row.card.name}", "its identity is not that of its weights, layer and preprocessing")
            )
    return out


def _readable(subject: str | None) -> str:
    """The subject of a problem, for example "model " and a name, with that name as it is shown."""
    if subject is None:
        return "a row without a name"
    kind = next((kind for kind in ("model ", "space ", "probe set ", "task ") if subject.startswith(kind)), subject)
    name = subject[len(kind) :]
    return kind + readable_name(name) if name else kind


def _names(registry: Reader) -> list[Problem]:
    """Names that are not shown as they are stored, since this program can't have written them."""
    tables = {"model": "models", "space": "spaces", "probe set": "probe_sets"}
    if outcomes.has_tables(registry):
        tables["task"] = "tasks"
    hints = {
        "model": "`space.rename(name, new)` gives it another",
        "space": "`space.rename_space(name, new)` gives it another",
        "task": "`space.rename_task(name, new)` gives it another",
    }
    other = "it can be used under this name"
    return [
        Problem(f"{kind} {shown}", "its stored name can't be a name, so it is escaped", hints.get(kind, other))
        for kind, table in tables.items()
        for (name,) in registry.rows(f"SELECT name FROM main.{table}")
        if (shown := readable_name(name)) != name
    ]

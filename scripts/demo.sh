#!/bin/sh
# The main job, from an empty folder: register trained models, ask for transfer sources, query the registry.
# Everything is written to .demo/, which git ignores; the shipped registry is only read.
set -eu
home=.demo
rm -rf "$home"

run() {
    printf '\n\033[1m$ modelspace'
    for word in "$@"; do
        case $word in
        *[!A-Za-z0-9_./:=-]*) printf ' "%s"' "$word" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
    printf '\033[0m\n'
    modelspace "$@"
}

echo "1. A registry of your own: 64 rendered rooms as probe images; the standard spaces are filled by one pass."
run init --home "$home" --images 64 --canvas 32
for task in rgb2depth rgb2sfnorm reshade edge2d autoencoder denoise segmentsemantic class_places; do
    run add "zoo:$task" --home "$home" --quiet
done
run list --home "$home"

echo
echo "2. What should a surface-normal task start from? The interval is over probe images; ≈ marks ties."
run nearest rgb2sfnorm --home "$home"
echo
echo "   The same by the published method, attribution maps:"
run nearest rgb2sfnorm --home "$home" --space paper

echo
echo "3. A model that is not registered: embedded, ranked, not stored."
run nearest zoo:curvature --home "$home" -k 3

echo
echo "4. The registry is plain DuckDB."
run sql "SELECT name, task, layer, parameters, round(affinity(name, 'rgb2sfnorm'), 4) AS to_normals FROM models ORDER BY to_normals DESC" --home "$home"

echo
echo "5. The shipped registry holds the whole zoo."
run spaces
run nearest rgb2sfnorm -k 5

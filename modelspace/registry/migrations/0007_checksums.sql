-- CRC-32 of what a row holds and of whose it is (modelspace/registry/checksums.py), so that a query notices a row that was
-- damaged, or changed by another program. NULL in rows that were written before. And the version of torch that
-- computed a model's maps and features ('' if unknown).

ALTER TABLE embeddings ADD COLUMN vector_checksum UINTEGER;
ALTER TABLE embeddings ADD COLUMN affinities_checksum UINTEGER;
ALTER TABLE maps ADD COLUMN checksum UINTEGER;
ALTER TABLE outcomes ADD COLUMN checksum UINTEGER;
ALTER TABLE models ADD COLUMN torch VARCHAR DEFAULT '';

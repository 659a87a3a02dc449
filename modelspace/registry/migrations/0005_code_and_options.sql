-- What a model computes besides its weights: a fingerprint of the code of its forward pass ('' where all of it is that of
-- installed packages), and how it was run, as JSON ('{}': as it is).

ALTER TABLE models ADD COLUMN code_sha256 VARCHAR DEFAULT '';
ALTER TABLE models ADD COLUMN options VARCHAR DEFAULT '{}';

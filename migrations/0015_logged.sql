-- What a version that follows an object has logged of it last: that object's digest. What was followed up to its time was.
ALTER TABLE announced ADD COLUMN logged TEXT;
UPDATE announced SET logged = (
  SELECT sha256 FROM object
   WHERE (object.scope, object.bucket, object.key) = (announced.scope, announced.bucket, announced.key)
     AND object.time <= announced.time
) WHERE state = 'follows';

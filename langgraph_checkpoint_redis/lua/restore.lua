-- Writes a thread as it was stored elsewhere.
--
-- KEYS     timeline, writes, chunks, runs of the thread; its copy mark
-- ARGV[1]  a random token of this copy
-- ARGV[2]  how long the mark lasts, in milliseconds
-- ARGV[3...] a dump of each of the first four keys, empty where there is none
-- Returns  1, or 0 when the thread has something already

-- include target

if not target_is_free(KEYS[1], KEYS[2], KEYS[5]) then
  return 0
end
for i = 1, 4 do
  if ARGV[i + 2] ~= '' then
    redis.call('RESTORE', KEYS[i], 0, ARGV[i + 2], 'REPLACE')
  end
end
mark_target(KEYS[5])
return 1

-- Deleting a thread.

-- Deletes all but the ids of the thread's runs, which stay until the index of runs is cleared. Returns
-- them.
local function delete_all()
  local runs = redis.call('HKEYS', KEYS[4])
  redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[5])
  forget_life()
  tell_readers()
  keep_control()
  for _, run in ipairs(runs) do
    redis.call('HSET', KEYS[4], run, 0)
  end
  return runs
end

-- What shows, as a hint, whether a thread was used since somebody looked at it: whoever goes on with a thread adds
-- a checkpoint to its first namespace, the root's, or a write. watch.lua is for what must be known for sure.
--
-- Needs: rows, keys
-- Gives: state_of_thread

local function state_of_thread()
  local row = redis.call('ZRANGEBYLEX', TIMELINE, '-', '+', 'LIMIT', 0, 1)[1]
  local newest = row and id_of(latest_row((split_row(row)))) or ''
  return redis.call('ZCARD', TIMELINE) .. ' ' .. redis.call('ZCARD', WRITES) .. ' ' .. newest
end

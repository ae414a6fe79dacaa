-- The last checkpoints that were trimmed, as the field `trimmed` of CHUNKS: hashes of their prefixes (see rows.lua),
-- each behind a blank. So writes that come late to one of them are told from writes that come before their checkpoint.
--
-- Needs: keys, rows
-- Gives: trimmed_name, note_trimmed, was_trimmed

local TRIMMED = 32 * 13 -- bytes that are kept

local function trimmed_name(ns, id)
  return ' ' .. string.sub(redis.sha1hex(prefix(ns, id)), 1, 12)
end

local function note_trimmed(names)
  local trimmed = (redis.call('HGET', CHUNKS, 'trimmed') or '') .. names
  redis.call('HSET', CHUNKS, 'trimmed', string.sub(trimmed, -TRIMMED))
end

local function was_trimmed(ns, id)
  if row_exists(ns, id) == 1 then
    return false
  end
  local trimmed = redis.call('HGET', CHUNKS, 'trimmed')
  return trimmed and string.find(trimmed, trimmed_name(ns, id), 1, true) ~= nil
end

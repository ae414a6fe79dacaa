-- Keeps the newest checkpoints of each namespace, and what reading them needs.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  a random token of this removal, in hexadecimal digits
-- ARGV[2], ARGV[3]  stage and position: 'rows' and empty at first, then as returned; an empty position once more
--          where the removal has to begin again
-- ARGV[4]  the token of the caller's lease, or empty
-- ARGV[5]  how many checkpoints to keep
-- Returns  {stage, position, gone}: an empty stage at the end; gone are the runs that have no
--          checkpoint left in the thread, with the tokens of their entries

-- include rows
-- include whole
-- include control
-- include lease
-- include slices
-- include closure
-- include live
-- include runs
-- include walk
-- include ancestors
-- include removals
-- include sweep
-- include remove
-- include retain

write_even_if_full()
write_for_wait()
check_lease(ARGV[4])
local count = tonumber(ARGV[5])
local kept, needed = {}, {}

-- What a call keeps, the next one keeps as well: so the newest root checkpoints are those of the first call, and
-- the newest of the namespace that it is in are those of the call that began with it.
local function is_victim(row, place)
  local ns, id = place_of(row)
  if not place.oldest_root then
    place.oldest_root = oldest_root_of(count) or ''
  end
  if place.ns ~= ns then
    place.ns, place.top = ns, id
  end
  local oldest_root = place.oldest_root ~= '' and place.oldest_root or nil
  kept[ns] = kept[ns] or rows_to_keep(ns, count, oldest_root, place.top)
  return not kept[ns][row] and not needed[row]
end

-- Keeps what has arrived meanwhile, and what it is rebuilt from.
local function heed_arrived()
  each_arrived(function(row, ancestors)
    needed[row] = true
    for _, ancestor in ipairs(ancestors) do
      needed[ancestor] = true
    end
  end)
end

return remove(ARGV[1], ARGV[2], ARGV[3], {is_victim = is_victim, heed_arrived = heed_arrived})

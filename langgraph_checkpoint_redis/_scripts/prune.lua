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

-- Needs: lease, first_write, retain, cut_off, rows, ancestors, removals, control, remove

read_control()
write_even_if_full()
write_for_wait()
check_lease(ARGV[4])
local count = tonumber(ARGV[5])

-- Rows to keep: OWN_SAKE for their own sake, or because newer ones are rebuilt from them.
local OWN_SAKE, AS_ANCESTOR = 'own', 'ancestor'
local kept, arrived_rows = {}, {}

-- Adds a row and the ancestors that it is rebuilt from.
local function keep(ns, row, rows, walked)
  rows[row] = OWN_SAKE
  if has_delta(row) then
    needed_ancestors(ns, head_of(row), function(ancestor)
      rows[ancestor] = rows[ancestor] or AS_ANCESTOR
    end, walked)
  end
end

-- Returns the rows of a namespace to keep, without those that are newer than the id `top`.
local function rows_to_keep(ns, oldest_root, top)
  local rows, walked, newest = {}, {}, find_newest_rows(ns, count, top)
  if newest[1] and is_of_past_call(ns, head_of(newest[1]), oldest_root) then
    return rows
  end
  for _, row in ipairs(newest) do
    keep(ns, row, rows, walked)
  end
  return rows
end

-- Returns why a row is kept, or nil. What a call keeps, the next one keeps as well: so the newest root checkpoints are
-- those of the first call, and the newest of the namespace that it is in are those of the call that began with it.
local function why_kept(row, progress)
  local ns, id = split_row(row)
  if not progress.oldest_root then
    progress.oldest_root = find_oldest_root(count) or ''
  end
  if progress.ns ~= ns then
    progress.ns, progress.top, progress.is_cut_off = ns, id, false
  end
  local oldest_root = progress.oldest_root ~= '' and progress.oldest_root or nil
  kept[ns] = kept[ns] or rows_to_keep(ns, oldest_root, progress.top)
  return kept[ns][row] or arrived_rows[row]
end

-- Cuts off a row that is kept as an ancestor only, before older ones go.
local function is_victim(row, progress)
  local why = why_kept(row, progress)
  if why == AS_ANCESTOR and not is_cut_off(row) then
    cut_off(row, not progress.is_cut_off and {} or nil)
    progress.is_cut_off = true
  end
  return not why
end

-- Keeps what has arrived meanwhile, and what it is rebuilt from.
local function heed_arrived()
  each_arrived(function(row, ancestors)
    arrived_rows[row] = OWN_SAKE
    for _, ancestor in ipairs(ancestors) do
      arrived_rows[ancestor] = arrived_rows[ancestor] or AS_ANCESTOR
    end
  end)
end

return remove(ARGV[1], ARGV[2], ARGV[3], {is_victim = is_victim, heed_arrived = heed_arrived})

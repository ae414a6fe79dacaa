-- Deletes a thread's checkpoints of some runs, with their writes, and frees what only they used.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  a random token of this removal, in hexadecimal digits
-- ARGV[2], ARGV[3]  stage and position: 'rows' and empty at first, then as returned; an empty position once more
--          where the removal has to begin again
-- ARGV[4]  the token of the caller's lease, or empty
-- ARGV[5...] run ids
-- Returns  {stage, position, gone}: an empty stage at the end; gone are the runs that have no
--          checkpoint left in the thread, with the tokens of their entries

-- Needs: control, first_write, lease, refuse, remove, keys, rows, removals, sweep

read_control()
write_even_if_full()
write_for_wait()
check_lease(ARGV[4])
local runs = {}
for i = 5, #ARGV do
  runs[ARGV[i]] = true
end

local function is_victim(row)
  return runs[head_of(row)[RUN] or '']
end

-- Refuses to remove a row that another one is rebuilt from.
local function refuse_needed(needed, row, is_begun)
  note_calls(ARGV[1], nil)
  refuse('NEEDED', TIMELINE, head_of(needed)[RUN], id_of(row), is_begun and '1' or '')
end

-- Refuses where a checkpoint that stays is rebuilt from one that would go.
local function check(row)
  local head = head_of(row)
  if is_victim(row) or not rebuilt_channels(head) then
    return
  end
  local ns = split_row(row)
  local parent_row = row_at(ns, head[PARENT])
  if parent_row and is_victim(parent_row) then
    refuse_needed(parent_row, row)
  end
end

-- Does the same for checkpoints that have arrived since, and removes those of the runs: what they are rebuilt from
-- is about to go. Returns whether it has removed any.
local function heed_arrived(is_begun)
  local victims = {}
  each_arrived(function(row, ancestors)
    for _, ancestor in ipairs(ancestors) do
      if is_victim(ancestor) and not is_victim(row) then
        refuse_needed(ancestor, row, is_begun)
      end
    end
    victims[#victims + 1] = is_victim(row) and row or nil
  end)
  for _, row in ipairs(victims) do
    remove_checkpoint(row)
  end
  return victims[1] ~= nil
end

return remove(ARGV[1], ARGV[2], ARGV[3], {
  is_victim = is_victim, check = check, heed_arrived = heed_arrived,
})

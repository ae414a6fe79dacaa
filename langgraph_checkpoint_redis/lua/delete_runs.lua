-- Deletes a thread's checkpoints of some runs, with their writes, and frees what only they used.
--
-- KEYS     timeline, writes, chunks, runs of the thread
-- ARGV     run ids
-- Returns  the ids of the runs that have no checkpoint left in the thread

-- include rows
-- include closure
-- include sweep

local runs, victims = {}, {}
for _, run in ipairs(ARGV) do
  runs[run] = true
end
each_row(TIMELINE, function(row)
  if runs[head_of(row)[RUN] or ''] then
    victims[#victims + 1] = row
  end
end)
for _, row in ipairs(victims) do
  remove_checkpoint(row)
end
return sweep()

-- Reads checkpoints by id, or the latest of a namespace.
--
-- KEYS     timeline, writes, chunks, runs, live of the thread
-- ARGV[1]  the levels of ropes whose chunks the caller knows
-- ARGV[2...] namespace and checkpoint id of each; an empty id is the latest
-- Returns  {done, rows, digests, groups}: done is how many were looked for before the reply was
--          large enough; a row is {row, has_parent, {writes, ...}}, and what is not there has none;
--          groups are all chunks that the rows are made of, digests a string for each

-- include rows
-- include slices
-- include closure
-- include reply

leave_out(ARGV[1])
local rows, done = {}, 0
while 2 * done + 1 < #ARGV and bytes < BUDGET do
  local ns, id = ARGV[2 * done + 2], ARGV[2 * done + 3]
  local row
  if id == '' then
    row = latest_row(ns)
  else
    row = row_at(ns, id)
  end
  if row then
    rows[#rows + 1] = whole_row(row)
  end
  done = done + 1
end
return {done, rows, fetched()}

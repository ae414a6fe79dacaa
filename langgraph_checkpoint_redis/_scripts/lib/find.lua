-- Finding checkpoints by id, or the latest of a namespace.
--
-- Needs: whole, reply, rows
-- Gives: find

-- Looks for the checkpoints that `args` name from `first` on, by namespace and checkpoint id. Returns how many it
-- looked for before the reply was large enough, and the rows.
local function find(args, first)
  local rows, done = {}, 0
  while first + 2 * done < #args and bytes < BUDGET do
    local ns, id = args[first + 2 * done], args[first + 2 * done + 1]
    local row
    if id == '' then
      row = latest_row(ns)
    else
      row = row_at(ns, id)
    end
    if row then
      rows[#rows + 1] = read_row(row)
    else
      check_whole()
    end
    done = done + 1
  end
  return done, rows
end

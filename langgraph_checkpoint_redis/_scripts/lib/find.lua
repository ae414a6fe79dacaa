-- Finding checkpoints by id, or the latest of a namespace.
--
-- Needs: reply, rows, whole
-- Gives: find

-- Looks for what the arguments from `first` on name: a namespace and a checkpoint id of each. Returns how
-- many were looked for before the reply was large enough, and the rows.
local function find(first)
  local rows, done = {}, 0
  while first + 2 * done < #ARGV and bytes < BUDGET do
    local ns, id = ARGV[first + 2 * done], ARGV[first + 2 * done + 1]
    local row
    if id == '' then
      row = latest_row(ns)
    else
      row = row_at(ns, id)
    end
    if row then
      rows[#rows + 1] = whole_row(row)
    else
      check_whole()
    end
    done = done + 1
  end
  return done, rows
end

-- What guards a thread that has a lease, a time to live, late writers, or a sweep under way. Few threads do.
--
-- To define a function costs a script about as much as a small command. So a script defines the guards only for the
-- threads that need them.
--
-- Needs: keys
-- Within load_guards: closure, control, late, lease, live, writing_life
-- Gives: load_guards_for

local function load_guards()
  read_control()

  -- Adds to the marks of a sweep what a new row refers to; `each` calls a function for its entries.
  local function mark(each, row)
    if is_being_swept() then
      each(row, want_entry)
      leave_marks(false)
    end
  end

  return {
    check_lease = check_lease,
    check_checkpoint = check_checkpoint,
    check_writes = check_writes,
    is_being_swept = is_being_swept,
    mark = mark,
    extend_expiry_by = extend_expiry_by,
    span_of = span_of,
    note_entry = note_entry,
  }
end

-- Returns the guards, or nil if neither the thread nor the caller needs them. The caller has the token of its lease,
-- and what `extend_expiry_by` takes. `noted_ttl` is the copy of the time to live that CHUNKS has.
local function load_guards_for(token, ttl, own, noted_ttl)
  local is_asked = token ~= '' or ttl ~= '0' or own ~= ''
  local is_plain = not is_asked and not noted_ttl and redis.call('EXISTS', LIVE, CONTROL) == 0
  return not is_plain and load_guards() or nil
end

-- Expiry as far as a writer decides it: see life.lua.
--
-- Needs: clock, life, keys, control
-- Gives: span_of, note_entry, extend_expiry_by

-- Returns for how many milliseconds a thread lives on that is written now, 0 if it never expires. The arguments are
-- those of `extend_expiry_by`.
local function span_of(ttl, own)
  local span = tonumber(own ~= '' and control.ttl ~= '0' and own or control.ttl or ttl)
  if span == 0 and control.ttl ~= '0' and control.deadline then
    return math.max(time_of('deadline') - now(), 1)
  end
  return span
end

-- Notes that there is a new entry, with its score; `is_only` if the thread has no other.
local function note_entry(score, is_only)
  local indexed = control.indexed and tonumber(control.indexed)
  if is_only and indexed then
    redis.call('HDEL', CONTROL, 'indexed')
    control.indexed, indexed = nil, nil
  end
  if score >= FAR then
    if indexed and indexed > 0 then
      set_control('indexed', integer(-indexed))
    end
  elseif not indexed then
    set_control('indexed', integer(is_only and score or -score))
  else
    local least = math.min(math.abs(indexed), score)
    set_control('indexed', integer(indexed < 0 and -least or least))
  end
end

-- Extends the expiry for a writer, which may give the thread a time to live of its own: `own`, or empty.
local function extend_expiry_by(ttl, own)
  if own ~= '' and control.ttl ~= '0' then
    control.ttl = own
  end
  local noted = control.ttl and {redis.call('HGET', CONTROL, 'ttl'), redis.call('HGET', CHUNKS, 'ttl')}
  if noted and not (noted[1] == control.ttl and noted[2] == control.ttl) then
    set_own_ttl(control.ttl)
  end
  return extend_expiry(ttl)
end

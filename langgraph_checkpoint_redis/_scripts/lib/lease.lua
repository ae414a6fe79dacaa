-- Leases: while a thread has one, only who shows its token may change the thread.
--
-- Needs: clock, refuse, control, keys
-- Gives: has_lease, find_refusal, check_lease

local function has_lease()
  return control['until'] and time_of('until') > now()
end

-- Returns why a writer with this token (empty for none) may not write, or nil. Each write of its holder renews a lease.
local function find_refusal(token)
  local leased = has_lease()
  if leased and control.lease == token then
    set_control('until', integer(now() + control.span))
    keep_control()
  elseif token ~= '' then
    return 'LEASELOST'
  elseif leased then
    return 'LEASED'
  end
  notify_readers()
end

-- Raises an error unless a writer with this token may write.
local function check_lease(token)
  local refusal = find_refusal(token)
  if refusal then
    refuse(refusal, TIMELINE)
  end
end

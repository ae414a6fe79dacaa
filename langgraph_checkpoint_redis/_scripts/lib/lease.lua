-- Leases: while a thread has one, only who shows its token may change the thread.
--
-- Needs: clock, control, keys, refuse
-- Gives: has_lease, refusal_of, check_lease

local function has_lease()
  return control['until'] and time_of('until') > now()
end

-- Why a writer with this token (empty for none) may not write, or nil. Each write of its holder renews a lease.
local function refusal_of(token)
  local leased = has_lease()
  if leased and control.lease == token then
    set_control('until', integer(now() + control.span))
    keep_control()
  elseif token ~= '' then
    return 'LEASELOST'
  elseif leased then
    return 'LEASED'
  end
  tell_readers()
end

-- Raises an error unless a writer with this token may write.
local function check_lease(token)
  local refusal = refusal_of(token)
  if refusal then
    refuse(refusal, TIMELINE)
  end
end

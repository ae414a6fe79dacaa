-- Leases: while a thread has one, only who shows its token may change the thread.

local function has_lease()
  return control['until'] and time_of('until') > now()
end

-- Raises an error unless a writer with this token (empty for none) may write. Each write of its holder
-- renews a lease.
local function check_lease(token)
  local leased = has_lease()
  if leased and control.lease == token then
    set_control('until', integer(now() + control.span))
    keep_control()
  elseif token ~= '' then
    refuse('LEASELOST', KEYS[1])
  elseif leased then
    refuse('LEASED', KEYS[1])
  end
end

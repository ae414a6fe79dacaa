-- Refusals: a code, and details that no name can imitate, since they are hexadecimal digits.
--
-- Gives: refuse

-- Raises the error LGR:CODE:DETAIL:..., which `_scripts/refusals.py` reads.
local function refuse(code, ...)
  local parts = {'LGR', code}
  for _, detail in ipairs({...}) do
    parts[#parts + 1] = string.gsub(detail, '.', function(byte)
      return string.format('%02x', string.byte(byte))
    end)
  end
  error(table.concat(parts, ':'), 0)
end

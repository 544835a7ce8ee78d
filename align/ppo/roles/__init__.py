"""The four roles of PPO behind one interface, in two layouts of memory.

    policy        trained; is sampled from
    reference     frozen; what the policy was at the start
    value_model   trained; V of the state before each response token. Or no model, but a head on the
                  policy's states (critic=head)
    reward_model  frozen; one score per response

`SharedRoles` keeps one frozen base and switches adapters on it; `SeparateRoles` keeps full models.
Nothing else in PPO knows which. Dropout is off in every role: the ratio of a policy to itself is 1.
"""

from align.ppo.roles.protocol import Roles
from align.ppo.roles.separate import SeparateRoles
from align.ppo.roles.shared import SharedRoles

__all__ = ["Roles", "SeparateRoles", "SharedRoles"]

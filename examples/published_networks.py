"""Published networks: counts one, scales it, writes it as block strings, loads weights. 5 seconds.

    python examples/published_networks.py

`weights=None` avoids a download: `weights="DEFAULT"` would load torchvision's weights.
"""

from dataclasses import replace

from torchvision.models import efficientnet_b0

from search_spaces import build, cost, load_weights, memory, parse, reference, scale, to_strings

b0 = reference("efficientnet_b0", like="torchvision")
print(f"B0: {cost(b0).params:,} parameters, {cost(b0).macs:,} macs")
larger = scale(b0, phi=1)
print(f"phi 1: {cost(larger).macs:,} macs, {memory(larger).inference_bytes:,} bytes at the peak")
print(to_strings(b0)[1], to_strings(b0, "timm")[1])

mine = build(replace(b0, num_classes=10))  # ten classes of your own
source = load_weights(mine, efficientnet_b0(weights=None).state_dict(), with_classifier=False)
print(f"stem.block0.conv.weight is {source['stem.block0.conv.weight']}")

small = parse(["ds_r1_k3_s1_c16", "ir_r3_k5_s2_e6_c32_se0.25"], stem=16, head=128, resolution=96)
print(f"{cost(small).macs:,} macs, digest {small.digest}")

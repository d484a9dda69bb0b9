"""Does a face tracker that knows nothing of this world take its heads for faces? (needs mediapipe==0.10.14)

    python tools/face_tracker.py [--frames 200] [--size 192]
"""
import argparse

import vasa_ref  # noqa: F401 - before torch: it says how threads wait
import numpy as np
import torch

from vasa_ref.anatomy import EXPRESSIONS, neutral_pose
from vasa_ref.head import random_people, render

# landmarks of the mesh: outer corners of the eyes, inner edges of the lips, forehead, chin
LEFT_EYE, RIGHT_EYE, UPPER_LIP, LOWER_LIP, FOREHEAD, CHIN = 33, 263, 13, 14, 10, 152


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=200, help="how many random frames (default 200)")
    parser.add_argument("--size", type=int, default=192, help="pixels (default 192)")
    args = parser.parse_args()
    from mediapipe.python.solutions.face_mesh import FaceMesh

    n, g = args.frames, torch.Generator().manual_seed(3)
    people, pose = random_people(n, g), neutral_pose(n)
    pose[:, :3] = (torch.rand(n, 3, generator=g) * 2 - 1) * torch.tensor([0.5, 0.3, 0.2])
    pose[:, 5] = 0.85 + 0.4 * torch.rand(n, generator=g)
    expression = torch.zeros(n, 14)
    expression[:, EXPRESSIONS.index("jaw_open")] = torch.rand(n, generator=g) ** 1.5
    for name in ("smile", "brow_raise", "lip_wide"):
        expression[:, EXPRESSIONS.index(name)] = torch.rand(n, generator=g) ** 3
    images = render(people, pose, expression, torch.zeros(n, 2), size=args.size)
    yaw, mouth, found = [], [], []
    with FaceMesh(static_image_mode=True, min_detection_confidence=0.3) as tracker:
        for i, image in enumerate(images.permute(0, 2, 3, 1).mul(255).byte().numpy()):
            faces = tracker.process(np.ascontiguousarray(image)).multi_face_landmarks
            if not faces:
                continue
            mesh = np.array([(p.x, p.y, p.z) for p in faces[0].landmark])
            across = mesh[RIGHT_EYE] - mesh[LEFT_EYE]
            yaw.append(np.arctan2(across[2], across[0]))
            opening, height = mesh[UPPER_LIP] - mesh[LOWER_LIP], mesh[FOREHEAD] - mesh[CHIN]
            mouth.append(np.linalg.norm(opening) / np.linalg.norm(height))
            found.append(i)
    jaw = expression[found, EXPRESSIONS.index("jaw_open")]
    print(f"faces found: {len(found)} of {n} ({100 * len(found) / n:.1f} %)")
    print(f"correlation of yaw with the truth: {np.corrcoef(yaw, pose[found, 0])[0, 1]:.3f}")
    print(f"correlation of mouth opening with the truth: {np.corrcoef(mouth, jaw)[0, 1]:.3f}")


if __name__ == "__main__":
    main()

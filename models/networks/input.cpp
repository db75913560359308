#include "models/networks/input.h"

namespace cmir {

ModelInput ModelInput::to(Device device) const {
  ModelInput moved = *this;
  for (auto& [name, modality] : moved.modalities) {
    if (is_floating(modality.values.dtype())) {
      modality.values = modality.values.to(device);
    } else {
      (void)modality.values.on(device);
    }
    (void)modality.offsets.on(device);
  }
  (void)groups.on(device);
  (void)labels.on(device);
  environments.prepare(device);
  (void)invariance_factor.on(device);
  return moved;
}

}  // namespace cmir

//! All systems by name: presets, configuration files, and models from them.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use tubelet_engine::{DType, Device, Error, Result};

use crate::{
    classify::Average,
    model::Model,
    params::{Naming, Params},
    video::{Geometry, Sampling},
};

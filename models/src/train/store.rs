//! The parameters of a model in training: f32 masters by name, handed to each step's model as variables.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use tubelet_autograd::{Gradients, Variable};
use tubelet_engine::{DType, Device, Error, Result, Tensor};

use crate::{
    model::Model,
    params::{Params, TensorFile},
    registry::{Config, Own},
};

/// Named values, some of them trainable.
#[derive(Clone, Debug)]
pub struct Store {
    /// Every tensor of the model, f32.
    pub values: BTreeMap<String, Tensor>,
    trainable: BTreeSet<String>,
}

impl Store {
    /// The tensors that `build` asks `params` for. Names that start with one of `frozen` are not trained.
    ///
    /// # Errors
    /// Of building; and where a prefix in `frozen` is that of no parameter, or all are frozen.
    pub fn collect(config: &Config, params: Params<'_>, frozen: &[String]) -> Result<Self> {
        let mut params = params.with_batch_norms().collecting();
        config.build(&mut params)?;
        let collected = params.take_collected();
        params.finish()?;
        if let Some(prefix) = frozen.iter().find(|prefix| !collected.iter().any(|p| p.name.starts_with(prefix.as_str()))) {
            return Err(Error::invalid("freeze", format!("no parameter's name starts with {prefix:?}")));
        }
        let free = |name: &str| !frozen.iter().any(|prefix| name.starts_with(prefix.as_str()));
        let trainable =
            collected.iter().filter(|p| p.trainable && free(&p.name)).map(|p| p.name.clone()).collect::<BTreeSet<_>>();
        if trainable.is_empty() {
            return Err(Error::invalid("freeze", "nothing is left to train"));
        }
        Ok(Store { values: collected.into_iter().map(|p| (p.name, p.value)).collect(), trainable })
    }

    /// The names of what is trained.
    pub fn trainable(&self) -> impl Iterator<Item = &String> {
        self.trainable.iter()
    }

    /// Numbers that are trained.
    pub fn parameters(&self) -> u64 {
        self.trainable.iter().filter_map(|name| self.values.get(name)).map(|value| value.elements() as u64).sum()
    }

    /// A model whose trainable parameters are variables, computing in `dtype`.
    pub fn training_model(&self, config: &Config, device: &Device, dtype: DType) -> Result<(Box<dyn Model>, Variables)> {
        let file = View { store: self, variables: Some(RefCell::default()) };
        let mut params = Params::from_file(device, dtype, &file, &Own).with_batch_norms().without_preparing();
        let model = config.build(&mut params)?;
        params.finish()?;
        Ok((model, Variables(file.variables.map(RefCell::into_inner).unwrap_or_default())))
    }

    /// A model for evaluation, everything constant and prepared.
    pub fn model(&self, config: &Config, device: &Device, dtype: DType) -> Result<Box<dyn Model>> {
        let file = View { store: self, variables: None };
        config.with_naming(device, dtype, &file, &Own)
    }

    /// The same names with other values, as an average has them; what `values` lacks stays.
    pub fn with_values(&self, values: &BTreeMap<String, Tensor>) -> Self {
        let mut store = self.clone();
        store.values.extend(values.iter().map(|(name, value)| (name.clone(), value.clone())));
        store
    }
}

/// The variables of one step's model.
pub struct Variables(BTreeMap<String, Variable>);

impl Variables {
    /// Adds this step's gradients to `sums`; a parameter that the loss does not depend on gets zeros.
    pub fn accumulate(&self, gradients: &mut Gradients, sums: &mut BTreeMap<String, Tensor>) -> Result<()> {
        for (name, variable) in &self.0 {
            let gradient = match gradients.take(variable) {
                Some(gradient) => gradient,
                None => Tensor::zeros(variable.device(), variable.dtype(), variable.shape())?,
            };
            let sum = match sums.remove(name) {
                Some(sum) => tubelet_engine::ops::binary::add(&sum, &gradient)?,
                None => gradient,
            };
            sums.insert(name.clone(), sum);
        }
        Ok(())
    }
}

/// The store as a file that a model is built from.
struct View<'a> {
    store: &'a Store,
    variables: Option<RefCell<BTreeMap<String, Variable>>>,
}

impl TensorFile for View<'_> {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.store.values.iter().map(|(name, value)| (name.clone(), value.shape().to_vec())).collect()
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let value = self.store.values.get(name).ok_or_else(|| Error::invalid(name, "no such parameter"))?.to_device(device)?;
        match &self.variables {
            Some(variables) if self.store.trainable.contains(name) => {
                let variable = Variable::new(value)?;
                let tensor = (*variable).clone();
                variables.borrow_mut().insert(name.to_owned(), variable);
                Ok(tensor)
            }
            _ => Ok(value),
        }
    }
}

//! For trying things out without a broker and without a sensor: an MQTT broker inside the process
//! and simulated devices that publish to it over real MQTT. Feature `broker`; in no package.

pub mod broker;
pub mod sensor;

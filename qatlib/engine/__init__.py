"""The accelerator: compiler (`compile`), simulation of its RTL (`simulate`), synthesis reports (`synthesise`)."""

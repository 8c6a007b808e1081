"""Operations on payments: charge and refund, with their gateway and ledger."""
